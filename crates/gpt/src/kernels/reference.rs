//! The same operations, written with candle's own differentiable ones: easy to read, any device, slower.
//!
//! candle-nn's `softmax` and `cross_entropy` are composed of differentiable operations and used as they are. Its layer norm,
//! softmax over the last dimension, RMS norm, rotary and scaled-dot-product operations have no backward pass and give no
//! error, so none of those is used.

use std::sync::Arc;

use candle_core::{D, Result, Tensor};

use super::IGNORED;
use super::activation::keep;
use super::rotary::Turns;

pub(crate) fn linear(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    x.matmul(w)?.broadcast_add(b)
}

pub(crate) fn layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, epsilon: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?; // [rows, 1]
    let deviation = (variance + f64::from(epsilon))?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(w)?.broadcast_add(b)
}

pub(crate) fn rms_norm(x: &Tensor, w: &Tensor, epsilon: f32) -> Result<Tensor> {
    let size = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(epsilon))?.sqrt()?; // [rows, 1]
    x.broadcast_div(&size)?.broadcast_mul(w)
}

pub(crate) fn rotary(x: &Tensor, turns: &Turns) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let (cos, sin) = turns.tensors(x)?; // [tokens, 1, e / 2]
    let half = cos.dim(2)?;
    let heads = x.reshape((tokens, width / half / 2, 2 * half))?; // [tokens, heads, e]
    let (a, b) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
    Tensor::cat(&[first, second], 2)?.reshape((tokens, width))
}

pub(crate) fn swiglu(x: &Tensor) -> Result<Tensor> {
    let half = x.dim(1)? / 2;
    x.narrow(1, 0, half)?.silu()?.mul(&x.narrow(1, half, half)?)
}

pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    let inner = ((x + (x.sqr()?.mul(x)? * 0.044_715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
    (x * 0.5)?.mul(&(inner.tanh()? + 1.0)?)
}

pub(crate) fn causal_attention(qkv: &Tensor, heads: usize, offsets: &Arc<[usize]>) -> Result<Tensor> {
    let (tokens, packed) = qkv.dims2()?;
    let (batch, e) = (offsets.len() - 1, packed / 3 / heads);
    let (gather, scatter, time) = padded(offsets);
    let device = qkv.device();
    let gather = Tensor::from_vec(gather, batch * time, device)?;
    let scatter = Tensor::from_vec(scatter, tokens, device)?;
    let rows = qkv.index_select(&gather, 0)?.reshape((batch, time, 3, heads, e))?;
    let rows = rows.permute((2, 0, 3, 1, 4))?.contiguous()?; // [3, batch, heads, time, e]
    let part = |third: usize| rows.narrow(0, third, 1)?.squeeze(0)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?); // [batch, heads, time, e]
    let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? / (e as f64).sqrt())?; // [batch, heads, time, time]
    let future: Vec<f32> =
        (0..time * time).map(|at| if at % time > at / time { f32::NEG_INFINITY } else { 0.0 }).collect();
    let scores = scores.broadcast_add(&Tensor::from_vec(future, (time, time), device)?)?;
    let mixed = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?; // [batch, heads, time, e]
    let mixed = mixed.transpose(1, 2)?.contiguous()?.reshape((batch * time, heads * e))?;
    mixed.index_select(&scatter, 0) // [tokens, d]
}

/// Where each place of the right-padded `[batch, time]` matrix is found among the tokens, where each token is found in
/// that matrix, and `time`. Padding repeats a sequence's last token; causality hides it from all real ones.
fn padded(offsets: &[usize]) -> (Vec<u32>, Vec<u32>, usize) {
    let lengths: Vec<usize> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let time = lengths.iter().copied().max().unwrap_or(0);
    let (mut gather, mut scatter) = (Vec::new(), Vec::new());
    for (s, &length) in lengths.iter().enumerate() {
        gather.extend((0..time).map(|t| (offsets[s] + t.min(length - 1)) as u32));
        scatter.extend((0..length).map(|t| (s * time + t) as u32));
    }
    (gather, scatter, time)
}

pub(crate) fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let device = logits.device();
    let rows: Vec<u32> = (0..targets.len() as u32).filter(|&row| targets[row as usize] != IGNORED).collect();
    let wanted: Vec<u32> = rows.iter().map(|&row| targets[row as usize]).collect();
    let count = rows.len();
    let logits = logits.index_select(&Tensor::from_vec(rows, count, device)?, 0)?; // [counted, vocabulary]
    candle_nn::loss::cross_entropy(&logits, &Tensor::from_vec(wanted, count, device)?)
}

/// −ln p(target) of each row, 0 where the target does not count.
pub(crate) fn row_losses(logits: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let wanted = targets.iter().map(|&target| if target == IGNORED { 0 } else { target });
    let wanted = Tensor::from_vec(wanted.collect::<Vec<u32>>(), (targets.len(), 1), logits.device())?;
    let chosen = logits.gather(&wanted, 1)?.squeeze(1)?;
    let losses = (logits.log_sum_exp(1)? - chosen)?.to_vec1::<f32>()?;
    Ok(losses.into_iter().zip(targets).map(|(loss, &t)| if t == IGNORED { 0.0 } else { loss }).collect())
}

pub(crate) fn dropout(x: &Tensor, rate: f32, key: u64) -> Result<Tensor> {
    let mask: Vec<f32> = (0..x.elem_count()).map(|at| keep(rate, key, at)).collect();
    x.mul(&Tensor::from_vec(mask, x.shape(), x.device())?)
}

/// x `[rows, F]`; see [`super::periodic::Periodic`] for the formula.
pub(crate) fn periodic(x: &Tensor, frequencies: &Tensor, weights: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (rows, features) = x.dims2()?;
    let turns = x.unsqueeze(2)?.broadcast_mul(&frequencies.unsqueeze(0)?)?; // [rows, F, n]
    let angles = (turns * std::f64::consts::TAU)?;
    let waves = Tensor::cat(&[angles.cos()?, angles.sin()?], 2)?; // [rows, F, 2n]
    let mapped = waves.transpose(0, 1)?.contiguous()?.matmul(weights)?; // [F, rows, e]
    let mapped = mapped.transpose(0, 1)?.contiguous()?.broadcast_add(bias)?; // [rows, F, e]
    mapped.relu()?.reshape((rows, features * bias.dim(1)?))
}
