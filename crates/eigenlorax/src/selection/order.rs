//! The order in which adapters add most to a pool.

/// An adapter in the order of [`greedy_order`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    pub adapter: usize,
    /// Its alignment with the part of −G that the adapters before it leave unexplained, times its weight:
    /// what decides the order.
    pub score: f64,
    /// ‖ΔW_⊥‖² / ‖ΔW‖²: the share of its update that is no combination of those before it.
    pub novelty: f64,
    /// The one before it that it is most like, and their cosine.
    pub nearest: Option<(usize, f64)>,
}

/// Below this novelty an update is a combination of earlier ones up to the rounding of f32 factors.
const RESOLUTION: f64 = 1e-9;

/// Orders adapters by what they add to those before them (orthogonal matching pursuit): the next one is
/// that with the largest
///
/// ```text
/// w_t · ⟨−G_⊥, ΔW_t⟩ / (‖G‖ ‖ΔW_t‖)
/// ```
///
/// where G_⊥ is what no combination of the adapters before explains of the gradient. A copy, and a copy with
/// noise, is aligned with the gradient as its original is, and has nothing left once that is in.
///
/// - cosines: those of the adapters with each other, `[T][T]`
/// - alignments: those with −G, `[T]`
/// - weights: positive factors, `[T]`; they keep those above whose score is positive, as negative scores are
///   not weighed
/// - most: how many are placed
pub fn greedy_order(
    cosines: &[Vec<f64>],
    alignments: &[f64],
    weights: &[f64],
    most: usize,
) -> Vec<Ranked> {
    let count = alignments.len();
    // Of each adapter, the coordinates on the orthonormal basis of those that are placed.
    let mut coordinates: Vec<Vec<f64>> = vec![Vec::new(); count];
    let mut of_gradient: Vec<f64> = Vec::new();
    let mut order: Vec<Ranked> = Vec::new();
    let mut left: Vec<usize> = (0..count).collect();
    while order.len() < most && !left.is_empty() {
        let rest = |adapter: usize| {
            let known = coordinates[adapter].iter().zip(&of_gradient);
            alignments[adapter] - known.map(|(own, other)| own * other).sum::<f64>()
        };
        let score = |adapter: usize| match rest(adapter) {
            rest if rest > 0.0 => rest * weights[adapter],
            rest => rest,
        };
        // Of equal ones the first that was given.
        let (place, best) = { left.iter().map(|&adapter| score(adapter)).enumerate() }.fold(
            (0, f64::NEG_INFINITY),
            |best, found| match found.1 > best.1 {
                true => found,
                false => best,
            },
        );
        let adapter = left.remove(place);
        let own = coordinates[adapter].clone();
        let novelty = 1.0 - own.iter().map(|value| value * value).sum::<f64>();
        let novelty = match cosines[adapter][adapter] > 0.0 {
            true => novelty.max(0.0),
            false => 0.0,
        };
        let nearest = order.iter().map(|earlier| earlier.adapter);
        let nearest = nearest
            .map(|earlier| (earlier, cosines[adapter][earlier]))
            .max_by(|one, other| one.1.abs().total_cmp(&other.1.abs()));
        if novelty > RESOLUTION {
            let scale = novelty.sqrt();
            let new: Vec<f64> = (0..count)
                .map(|other| {
                    let known = coordinates[other].iter().zip(&own);
                    let known: f64 = known.map(|(one, other)| one * other).sum();
                    (cosines[other][adapter] - known) / scale
                })
                .collect();
            of_gradient.push(rest(adapter) / scale);
            for (coordinates, new) in coordinates.iter_mut().zip(new) {
                coordinates.push(new);
            }
        }
        order.push(Ranked {
            adapter,
            score: best,
            novelty,
            nearest,
        });
    }
    order
}
