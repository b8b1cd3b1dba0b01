"""torch_peer.py PRESET WORK PRECISION THREADS SECONDS: the same models and steps in PyTorch; prints what was seen as JSON.

`train` is forward, backward, clipping and the fused AdamW; `embed` is the mean of the final hidden states. bf16 is autocast. The
figures are those of `foretime gpt bench`.
"""

import json
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

preset, work, precision, threads, seconds = sys.argv[1:6]
torch.set_num_threads(int(threads))
torch.manual_seed(0)
LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY, SEQUENCES = {
    "a": (4, 128, 4, 256, 1024, 16),
    "b": (6, 384, 6, 512, 4096, 8),
    "c": (12, 768, 12, 512, 50257, 1),
}[preset]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.mixed = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.inner, self.outer = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        batch, time_, _ = x.shape
        parts = self.qkv(self.before_attention(x)).split(WIDTH, 2)
        q, k, v = (part.view(batch, time_, HEADS, WIDTH // HEADS).transpose(1, 2) for part in parts)
        heard = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mixed(heard.transpose(1, 2).reshape(batch, time_, WIDTH))
        return x + self.outer(F.gelu(self.inner(self.before_mlp(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def hidden(self, ids):
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def loss(self, ids):
        scores = F.linear(self.hidden(ids), self.tokens.weight)[:, :-1]
        return F.cross_entropy(scores.reshape(-1, VOCABULARY).float(), ids[:, 1:].reshape(-1))


gpt = Gpt()
optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-4, fused=True)
ids = torch.randint(0, VOCABULARY, (SEQUENCES, CONTEXT))
rounded = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


def train():
    optimizer.zero_grad(set_to_none=True)
    with rounded:
        loss = gpt.loss(ids)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
    optimizer.step()


def embed():
    with torch.inference_mode(), rounded:
        gpt.hidden(ids).mean(1)


step = {"train": train, "embed": embed}[work]
step()
spent, begun, worked = [], time.monotonic(), time.process_time()
while not spent or time.monotonic() - begun < float(seconds):
    at = time.perf_counter()
    step()
    spent.append(time.perf_counter() - at)
worked = time.process_time() - worked
tokens, median = SEQUENCES * CONTEXT, sorted(spent)[len(spent) // 2]
print(json.dumps({
    "steps": len(spent),
    "tokens_per_second": tokens / median,
    "tokens_per_cpu_second": tokens * len(spent) / worked,
    "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "version": torch.__version__,
}))
