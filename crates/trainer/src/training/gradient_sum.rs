//! The sum of the gradients of a step over its micro-batches, in their order: over those of one process on
//! its device, over those of several on the host, gathered and added up in every process alike. Both are the
//! same operations in the same order, so a training has the same bits on any number of processes, as long as
//! its micro-batches are the same.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_moslora::TrainedValues;

use super::optimizer::{NamedGradients, accumulate};
use super::trained_model::Minibatch;
use crate::host_values::host_values;
use crate::processes::{ProcessError, Processes, take};

/// How many values of a micro-batch are gathered at once, which bounds the memory for those of the others.
const CHUNK: usize = 1 << 22;

/// The trained parameters in the order in which their gradients are sent.
#[derive(Default)]
pub(super) struct GradientLayout {
    places: Vec<(String, Range<usize>)>,
    total: usize,
}

impl GradientLayout {
    pub fn new(values: &TrainedValues) -> Self {
        let (mut places, mut total) = (Vec::new(), 0);
        for (name, value) in values {
            let end = total + value.values.len();
            places.push((name.clone(), total..end));
            total = end;
        }
        Self { places, total }
    }

    fn mask_bytes(&self) -> usize {
        self.places.len().div_ceil(8)
    }
}

/// What a step's micro-batches have given so far.
pub(super) struct GradientSum<'a> {
    processes: &'a Processes,
    layout: &'a GradientLayout,
    /// Where the parameters are, without autodiff.
    device: &'a Device,
    totals: Totals,
    /// Of one process alone.
    gradients: NamedGradients,
    /// Of one of several: those of its own micro-batches, and what is sent before them.
    own: Vec<Vec<f32>>,
    head: Vec<u8>,
}

/// The sums over all micro-batches of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// Weighted by targets: the mean over all of them.
    pub loss: f64,
    pub examples: usize,
    pub tokens: usize,
}

/// A whole step.
pub(super) struct StepGradients {
    pub totals: Totals,
    pub gradients: NamedGradients,
    /// The first process that was asked to stop.
    pub stopped: Option<usize>,
}

impl<'a> GradientSum<'a> {
    pub fn new(processes: &'a Processes, layout: &'a GradientLayout, device: &'a Device) -> Self {
        Self {
            processes,
            layout,
            device,
            totals: Totals::default(),
            gradients: NamedGradients::new(),
            own: Vec::new(),
            head: Vec::new(),
        }
    }

    /// Adds the next micro-batch of this process.
    ///
    /// - loss: its mean loss, times its share of the targets
    pub fn add(&mut self, loss: f64, batch: &impl Minibatch, gradients: NamedGradients) {
        let totals = Totals {
            loss,
            examples: batch.examples(),
            tokens: batch.tokens(),
        };
        if self.processes.is_alone() {
            self.totals.add(totals);
            accumulate(&mut self.gradients, gradients);
            return;
        }
        self.head.extend_from_slice(&totals.loss.to_le_bytes());
        for count in [totals.examples, totals.tokens] {
            self.head.extend_from_slice(&(count as u64).to_le_bytes());
        }
        self.flatten(gradients);
    }

    /// Puts the gradients of a micro-batch one after the other, zeros where a parameter has none.
    fn flatten(&mut self, mut gradients: NamedGradients) {
        let mut mask = vec![0u8; self.layout.mask_bytes()];
        let (mut found, mut places) = (Vec::new(), Vec::new());
        for (number, (name, place)) in self.layout.places.iter().enumerate() {
            if let Some(gradient) = gradients.remove(name) {
                mask[number / 8] |= 1 << (number % 8);
                found.push(gradient);
                places.push(place.clone());
            }
        }
        self.head.extend_from_slice(&mask);
        let mut flat = vec![0.0; self.layout.total];
        // One transfer from the device.
        let values = match found.is_empty() {
            true => Vec::new(),
            false => host_values(Tensor::cat(found, 0)),
        };
        let mut values = values.as_slice();
        for place in places {
            let (own, rest) = values.split_at(place.len());
            flat[place].copy_from_slice(own);
            values = rest;
        }
        self.own.push(flat);
    }

    /// The sum over the micro-batches of all processes.
    ///
    /// - stop: whether this process was asked to stop
    /// - counts: how many micro-batches each process has
    ///
    /// # Errors
    /// If another process has failed.
    pub fn finish(mut self, stop: bool, counts: &[usize]) -> Result<StepGradients, ProcessError> {
        if self.processes.is_alone() {
            return Ok(StepGradients {
                totals: self.totals,
                gradients: self.gradients,
                stopped: stop.then_some(0),
            });
        }
        let mut sum = vec![0.0; self.layout.total];
        let mut step = StepGradients {
            totals: Totals::default(),
            gradients: NamedGradients::new(),
            stopped: None,
        };
        // Of every parameter the micro-batch that has its first gradient; of every micro-batch what it has.
        let mut firsts: Vec<Option<usize>> = vec![None; self.layout.places.len()];
        let mut masks: Vec<Vec<u8>> = Vec::new();
        let mut begin = 0;
        loop {
            let chunk = begin..self.layout.total.min(begin + CHUNK);
            let mut message = match begin {
                0 => [vec![u8::from(stop)], std::mem::take(&mut self.head)].concat(),
                _ => Vec::new(),
            };
            for own in &self.own {
                let values = own[chunk.clone()].iter();
                message.extend(values.flat_map(|value| value.to_le_bytes()));
            }
            let all = self.processes.exchange(&message)?;
            let mut number = 0;
            for (rank, message) in all.iter().enumerate() {
                let mut bytes = message.as_slice();
                if begin == 0 {
                    let read = self.read_head(&mut bytes, counts[rank], &mut step, &mut masks);
                    match read {
                        Some(true) if step.stopped.is_none() => step.stopped = Some(rank),
                        Some(_) => {}
                        None => return Err(self.processes.malformed(rank)),
                    }
                }
                if bytes.len() != counts[rank] * chunk.len() * size_of::<f32>() {
                    return Err(self.processes.malformed(rank));
                }
                for values in bytes.chunks(chunk.len().max(1) * size_of::<f32>()) {
                    self.add_chunk(&mut sum, &chunk, values, number, &masks, &mut firsts);
                    number += 1;
                }
            }
            begin = chunk.end;
            if begin == self.layout.total {
                break;
            }
        }
        for ((name, place), first) in self.layout.places.iter().zip(&firsts) {
            if first.is_some() {
                let values = TensorData::new(sum[place.clone()].to_vec(), [place.len()]);
                let gradient = Tensor::from_data(values, self.device);
                step.gradients.insert(name.clone(), gradient);
            }
        }
        Ok(step)
    }

    /// Reads what comes before the gradients of a process: whether it was asked to stop, and the losses,
    /// counts and masks of its micro-batches.
    fn read_head(
        &self,
        bytes: &mut &[u8],
        count: usize,
        step: &mut StepGradients,
        masks: &mut Vec<Vec<u8>>,
    ) -> Option<bool> {
        let [stopped] = *take(bytes)?;
        for _ in 0..count {
            let loss = f64::from_le_bytes(*take(bytes)?);
            let [examples, tokens] =
                [take(bytes)?, take(bytes)?].map(|count| u64::from_le_bytes(*count) as usize);
            step.totals.add(Totals {
                loss,
                examples,
                tokens,
            });
            let (mask, rest) = bytes.split_at_checked(self.layout.mask_bytes())?;
            masks.push(mask.to_vec());
            *bytes = rest;
        }
        Some(stopped != 0)
    }

    /// Adds a part of the gradients of micro-batch `number`, or begins with them, where it is the first.
    fn add_chunk(
        &self,
        sum: &mut [f32],
        chunk: &Range<usize>,
        values: &[u8],
        number: usize,
        masks: &[Vec<u8>],
        firsts: &mut [Option<usize>],
    ) {
        for (parameter, (_, place)) in self.layout.places.iter().enumerate() {
            let part = place.start.max(chunk.start)..place.end.min(chunk.end);
            let is_there = masks[number][parameter / 8] & (1 << (parameter % 8)) != 0;
            if !is_there || part.is_empty() {
                continue;
            }
            let is_first = *firsts[parameter].get_or_insert(number) == number;
            let own = &values[(part.start - chunk.start) * size_of::<f32>()..];
            let own = own.chunks_exact(size_of::<f32>());
            for (sum, bytes) in sum[part].iter_mut().zip(own) {
                let value = bytes.try_into().map_or(f32::NAN, f32::from_le_bytes);
                *sum = if is_first { value } else { *sum + value };
            }
        }
    }
}

/// The weights of the targets of all micro-batches of a step, in their order.
///
/// - own: those of this process
///
/// # Errors
/// If another process has failed.
pub(super) fn all_weights(
    processes: &Processes,
    own: &[impl Minibatch],
) -> Result<Vec<f64>, ProcessError> {
    let own = own.iter().map(Minibatch::weight);
    if processes.is_alone() {
        return Ok(own.collect());
    }
    let own: Vec<u8> = own.flat_map(f64::to_le_bytes).collect();
    let all = processes.exchange(&own)?.concat();
    let numbers = all.chunks_exact(size_of::<f64>());
    let number = |bytes: &[u8]| bytes.try_into().map_or(f64::NAN, f64::from_le_bytes);
    Ok(numbers.map(number).collect())
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.examples += other.examples;
        self.tokens += other.tokens;
    }
}

#[cfg(test)]
mod tests {
    use eigenmix_tensors::HostTensor;

    use super::*;
    use crate::processes::run_together;

    const NAMES: [(&str, usize); 3] = [("a", 5), ("b", 3), ("c", 4)];

    fn layout() -> GradientLayout {
        let value = |(name, count): (&str, usize)| {
            let tensor = HostTensor {
                shape: vec![count],
                values: vec![0.0; count],
            };
            (name.to_owned(), tensor)
        };
        GradientLayout::new(&NAMES.into_iter().map(value).collect())
    }

    /// Gradients of a micro-batch whose sums depend on their order; `b` has none in the first two.
    fn gradients(number: usize, device: &Device) -> NamedGradients {
        let names = NAMES.into_iter();
        let names = names.filter(|(name, _)| *name != "b" || number >= 2);
        let gradient = |(name, count): (&str, usize)| {
            let value = |place: usize| {
                let sign = if (number + place).is_multiple_of(2) {
                    1.0
                } else {
                    -1.0
                };
                sign * 10f32.powi((number * 3 + place) as i32 % 7 - 3) / 3.0
            };
            let values: Vec<f32> = (0..count).map(value).collect();
            let data = TensorData::new(values, [count]);
            (name.to_owned(), Tensor::from_data(data, device))
        };
        names.map(gradient).collect()
    }

    /// Two texts.
    struct Texts {
        tokens: usize,
    }

    impl Minibatch for Texts {
        fn weight(&self) -> f64 {
            2.0
        }

        fn examples(&self) -> usize {
            2
        }

        fn tokens(&self) -> usize {
            self.tokens
        }
    }

    fn batch(number: usize) -> Texts {
        Texts {
            tokens: 2 * (number + 1),
        }
    }

    /// The bits of each parameter's sum, by name.
    type Bits = Vec<(String, Vec<u32>)>;

    /// The bits of the sum of seven micro-batches in as many processes.
    fn sum(processes: &Processes) -> (Totals, Bits, Option<usize>) {
        let (device, layout) = (Device::flex(), layout());
        let mut sum = GradientSum::new(processes, &layout, &device);
        for number in processes.part(7) {
            let loss = 1.0 / (number as f64 + 3.0);
            sum.add(loss, &batch(number), gradients(number, &device));
        }
        let counts: Vec<usize> = (0..processes.size())
            .map(|rank| processes.part_of(rank, 7).len())
            .collect();
        let stop = processes.rank() == processes.size() - 1;
        let step = sum.finish(stop, &counts).unwrap();
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        let gradients = step.gradients.into_iter();
        let gradients = gradients.map(|(name, tensor)| (name, bits(host_values(tensor))));
        (step.totals, gradients.collect(), step.stopped)
    }

    #[test]
    fn gradients_of_any_number_of_processes_are_those_of_one_to_the_bit() {
        let (totals, gradients, _) = sum(&Processes::alone());
        assert_eq!((totals.examples, totals.tokens), (14, 56));
        for size in [2, 3, 4, 9] {
            run_together(size, |processes| {
                let found = sum(processes);
                assert_eq!(found, (totals, gradients.clone(), Some(size - 1)), "{size}");
            });
        }
    }

    #[test]
    fn the_order_of_the_micro_batches_is_part_of_the_sum() {
        let device = Device::flex();
        let mut backwards = NamedGradients::new();
        for number in (0..7).rev() {
            accumulate(&mut backwards, gradients(number, &device));
        }
        let (_, forwards, _) = sum(&Processes::alone());
        let found: Vec<Vec<u32>> = backwards
            .into_values()
            .map(|tensor| host_values(tensor).into_iter().map(f32::to_bits).collect())
            .collect();
        let forwards: Vec<Vec<u32>> = forwards.into_iter().map(|(_, bits)| bits).collect();
        assert_ne!(found, forwards, "the test would not see another order");
    }
}
