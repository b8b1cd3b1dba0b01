// Asks a running Foretime as its users would, until it is stopped: predictions, features of many aircraft, rows of weather, and now
// and then whether what was served is what is stored.
//
//   node traffic.js URL

const url = process.argv[2]!;
const airports = ['LGA', 'JFK', 'EWR'];

for (let round = 0; ; round++) {
  await ask('/v1/predict', { model: 'late-arrival', rows: many(1 + (round % 8), flight) });
  await ask('/v1/datasets/late_2h/online', { rows: many(1 + (round % 30), flight) });
  await ask('/v1/features/online', {
    features: ['aircraft_arrivals:arr_delay_mean_7d', 'aircraft:seats'],
    entities: many(50, (n) => ({ tailnum: `N${round * 50 + n}` })),
  });
  if (round % 5 === 0) {
    await ask('/v1/sources/weather/rows', { rows: [weather(round)] });
  }
  if (round % 60 === 0) {
    await ask('/v1/parity', {});
  }
  await new Promise((resolve) => setTimeout(resolve, 60 + 12 * Math.sin(round / 200)));
}

async function ask(path: string, body: object): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!answer.ok) {
    throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  }
  await answer.arrayBuffer();
}

function many<T>(count: number, make: (n: number) => T): T[] {
  return Array.from({ length: count }, (_, n) => make(n));
}

function flight(n: number): object {
  return {
    carrier: ['WN', 'AA', 'UA', 'B6'][n % 4],
    flight: n,
    origin: airports[n % 3],
    dest: ['MDW', 'ORD', 'ATL', 'LAX'][n % 4],
    tailnum: `N${n}`,
    distance: 725,
    block_min: 150,
    sched_dep_ts_text: String(n),
    sched_dep_ts: '2014-01-01T15:00:00Z',
    event_time: '2014-01-01T15:00:00Z',
  };
}

function weather(round: number): object {
  const hour = String(round % 23).padStart(2, '0');
  return {
    origin: airports[round % 3],
    obs_ts: `2013-12-31T${hour}:00:00Z`,
    published_ts: '2013-12-31T23:30:00Z',
    temp: 30,
    dewp: 20,
    humid: 50,
    wind_dir: 10,
    wind_speed: 5,
    wind_gust: null,
    precip: 0,
    pressure: 1010,
    visib: 10,
  };
}
