//! A picture of what moved: each measure's estimate with its interval, on one axis. As SVG for pages, as PNG for mail.
//!
//! Small and self-contained: rectangles and an 8 × 8 font, so that it looks the same on a server without fonts.

use std::fmt::Write;

use font8x8::legacy::BASIC_LEGACY;

use crate::delivery::message::Moved;

const WIDTH: usize = 640;
const ROW: usize = 36;
const MARGIN: usize = 16;
const FOOT: usize = 24;
/// A letter's side, in pixels; each is drawn so large.
const LETTER: usize = 8;
const LETTERS: usize = (WIDTH - 2 * MARGIN) / LETTER;

/// The colours of the palette, by index.
const PALETTE: [[u8; 3]; 5] = [PAPER, [51, 51, 51], [204, 204, 204], [244, 165, 130], [178, 24, 43]];
const PAPER: [u8; 3] = [255, 255, 255];
const INK: u8 = 1;
const GRID: u8 = 2;
const INTERVAL: u8 = 3;
const ESTIMATE: u8 = 4;

/// Something drawn.
enum Shape {
    Box { x: usize, y: usize, width: usize, height: usize, colour: u8 },
    Text { x: usize, y: usize, text: String },
}

struct Scene {
    height: usize,
    shapes: Vec<Shape>,
}

/// The picture as PNG; `None` if nothing has a size.
pub(crate) fn png(moved: &[Moved]) -> Option<Vec<u8>> {
    let scene = scene(moved)?;
    let mut pixels = vec![0_u8; WIDTH * scene.height];
    for shape in &scene.shapes {
        match shape {
            Shape::Box { x, y, width, height, colour } => {
                fill(&mut pixels, (*x, *y), (*width, *height), *colour);
            }
            Shape::Text { x, y, text } => write(&mut pixels, (*x, *y), text),
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH as u32, scene.height as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(PALETTE.concat());
    let mut writer = encoder.write_header().expect("memory can be written");
    writer.write_image_data(&pixels).expect("there are as many pixels as the header says");
    writer.finish().expect("memory can be written");
    Some(bytes)
}

/// The picture as SVG; `None` if nothing has a size.
pub(crate) fn svg(moved: &[Moved]) -> Option<String> {
    let Scene { height, shapes } = scene(moved)?;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
    for shape in shapes {
        match shape {
            Shape::Box { x, y, width, height, colour } => write!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"#{}\"/>",
                hex::encode(PALETTE[usize::from(colour)])
            ),
            Shape::Text { x, y, text } => write!(
                svg,
                "<text x=\"{x}\" y=\"{}\" font-family=\"monospace\" font-size=\"12\">{}</text>",
                y + LETTER,
                text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
            ),
        }
        .expect("a string can be written");
    }
    Some(svg + "</svg>")
}

fn scene(moved: &[Moved]) -> Option<Scene> {
    let sized: Vec<(&Moved, [f64; 3])> =
        moved.iter().filter_map(|moved| Some((moved, ends(moved)?))).collect();
    let furthest = sized.iter().flat_map(|(_, ends)| ends).fold(0.0_f64, |most, end| most.max(end.abs()));
    if furthest <= 0.0 {
        return None;
    }
    let lowest = sized.iter().flat_map(|(_, ends)| ends).fold(0.0_f64, |least, &end| least.min(end));
    let highest = sized.iter().flat_map(|(_, ends)| ends).fold(0.0_f64, |most, &end| most.max(end));
    let across = |value: f64| {
        MARGIN + ((value - lowest) / (highest - lowest) * (WIDTH - 2 * MARGIN) as f64).round() as usize
    };
    let height = MARGIN + sized.len() * ROW + FOOT;
    let foot = height - FOOT;
    let mut shapes = vec![bar(across(0.0), MARGIN, 1, foot - MARGIN, GRID)];
    for (row, (moved, [low, effect, high])) in sized.iter().enumerate() {
        let y = MARGIN + row * ROW;
        shapes.push(text(MARGIN, y, &format!("{} {}", moved.subject(), moved.size())));
        let (from, to) = (across(*low), across(*high));
        shapes.push(bar(from, y + 15, (to - from).max(1), 8, INTERVAL));
        shapes.push(bar(across(*effect).saturating_sub(2), y + 12, 4, 14, ESTIMATE));
    }
    shapes.push(bar(MARGIN, foot, WIDTH - 2 * MARGIN, 1, INK));
    let right = format!("{highest:.3}");
    shapes.push(text(MARGIN, foot + 6, &format!("{lowest:.3}")));
    shapes.push(text(WIDTH - MARGIN - right.len() * LETTER, foot + 6, &right));
    Some(Scene { height, shapes })
}

/// The interval's lower end, the estimate and the upper end, in order.
fn ends(moved: &Moved) -> Option<[f64; 3]> {
    let effect = moved.effect.filter(|effect| effect.is_finite())?;
    let end = |end: Option<f64>| end.filter(|end| end.is_finite()).unwrap_or(effect);
    Some([end(moved.low).min(effect), effect, end(moved.high).max(effect)])
}

fn bar(x: usize, y: usize, width: usize, height: usize, colour: u8) -> Shape {
    Shape::Box { x, y, width, height, colour }
}

/// A line of text, cut to the picture's width.
fn text(x: usize, y: usize, line: &str) -> Shape {
    Shape::Text { x, y, text: line.chars().take(LETTERS).collect() }
}

fn fill(pixels: &mut [u8], (x, y): (usize, usize), (width, height): (usize, usize), colour: u8) {
    for row in pixels.chunks_exact_mut(WIDTH).skip(y).take(height) {
        let end = (x + width).min(WIDTH);
        row[x.min(end)..end].fill(colour);
    }
}

/// Draws letters; what is not ASCII becomes a question mark.
fn write(pixels: &mut [u8], (x, y): (usize, usize), text: &str) {
    for (place, letter) in text.chars().enumerate() {
        let letter = if letter == '–' { '-' } else { letter };
        let glyph = BASIC_LEGACY[if letter.is_ascii() { letter as usize } else { '?' as usize }];
        for (dy, bits) in glyph.iter().enumerate() {
            for dx in (0..LETTER).filter(|dx| bits & (1 << dx) != 0) {
                fill(pixels, (x + place * LETTER + dx, y + dy), (1, 1), INK);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(column: &str, effect: Option<f64>, low: f64, high: f64) -> Moved {
        Moved {
            kind: "input".to_owned(),
            column: column.to_owned(),
            measure: "ks_distance".to_owned(),
            effect,
            low: Some(low),
            high: Some(high),
            current: None,
            reference: None,
            rows: 400,
        }
    }

    #[test]
    fn the_png_decodes_and_holds_interval_and_estimate_where_the_numbers_say() {
        let bytes = png(&[moved("distance", Some(0.5), 0.4, 1.0)]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(reader.info().size(), (WIDTH as u32, (MARGIN + ROW + FOOT) as u32));
        let line = &pixels[(MARGIN + 18) * WIDTH..(MARGIN + 19) * WIDTH];
        let inner = (WIDTH - 2 * MARGIN) as f64;
        assert_eq!(line[MARGIN + (inner * 0.5) as usize], ESTIMATE);
        assert_eq!(line[MARGIN + (inner * 0.9) as usize], INTERVAL);
        assert_eq!(line[MARGIN + (inner * 0.3) as usize], 0);
    }

    #[test]
    fn nothing_with_a_size_is_no_picture() {
        assert!(png(&[]).is_none());
        assert!(svg(&[moved("distance", None, 0.0, 1.0)]).is_none());
        assert!(svg(&[moved("distance", Some(0.0), 0.0, 0.0)]).is_none());
    }

    #[test]
    fn the_svg_escapes_what_columns_are_called() {
        let svg = svg(&[moved("a<b", Some(-0.2), -0.3, 0.1)]).unwrap();
        assert!(svg.contains("a&lt;b: ks_distance -0.200 [-0.300, 0.100]"), "{svg}");
    }
}
