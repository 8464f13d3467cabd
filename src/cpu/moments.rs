//! Reference of [`crate::ops::moments`]: two passes, f64 sums of every row added up in the order of rows.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{lanes, row_elements};
use crate::ops::Io;
use crate::ops::moments::Moments;

pub(super) fn run(op: &Moments, io: &Io, _weights: &[Buffer], inputs: &[&[f32]], output: &mut [f32]) {
    let shape = io.inputs[0].shape;
    let lanes = lanes(shape.channels);
    let group_channels = op.channels / op.groups;
    let count = (shape.height * shape.width * group_channels) as f64;

    // For each channel the sum of its group's elements less `centers`, or of their squares, over `count`.
    let average = |centers: &[f64], squared: bool| -> Vec<f64> {
        let rows: Vec<Vec<f64>> = inputs[0]
            .par_chunks(row_elements(shape))
            .map(|row| {
                let mut sums = vec![0.0f64; op.channels];
                for pixel in row.chunks_exact(lanes) {
                    for ((sum, &x), center) in sums.iter_mut().zip(pixel).zip(centers) {
                        let difference = f64::from(x) - center;
                        *sum += if squared { difference * difference } else { difference };
                    }
                }
                sums
            })
            .collect();
        let mut sums = vec![0.0f64; op.channels];
        for row in rows {
            for (sum, row) in sums.iter_mut().zip(row) {
                *sum += row;
            }
        }
        for group in sums.chunks_exact_mut(group_channels) {
            let average = group.iter().sum::<f64>() / count;
            group.fill(average);
        }
        sums
    };
    let means = average(&vec![0.0; op.channels], false);
    let variances = average(&means, true);

    output.fill(0.0);
    for ((output, mean), variance) in output.chunks_exact_mut(2).zip(means).zip(variances) {
        output[0] = mean as f32;
        output[1] = (1.0 / (variance + f64::from(op.eps)).sqrt()) as f32;
    }
}
