//! How much of the variance of its sources a subspace explains: by component, and by module.

use std::collections::BTreeMap;

use eigenmix_charts::{Axis, Figure, LineChart, Point, Series};
use eigenmix_eigenlorax::{ModuleSpectra, Spectrum};
use serde::{Deserialize, Serialize};

use super::module_map::module_maps;

/// The variances of a subspace, as shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpectrumSummary {
    pub left: SideSpectrum,
    pub right: SideSpectrum,
}

/// One side over all modules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideSpectrum {
    /// Σ over the modules of the variance of component 1, 2, …, over their total variance.
    pub share: Vec<f64>,
    /// The share of the components up to each.
    pub cumulative: Vec<CumulativeShare>,
    /// The share that all components explain, by module.
    pub kept: BTreeMap<String, f64>,
}

/// A cumulative share over all modules, and in the modules with the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CumulativeShare {
    pub all: f64,
    pub smallest: f64,
    pub largest: f64,
}

impl SpectrumSummary {
    pub fn of(modules: &BTreeMap<String, ModuleSpectra>) -> Self {
        let side = |of: fn(&ModuleSpectra) -> &Spectrum| {
            let spectra = modules.iter();
            SideSpectrum::of(spectra.map(|(path, module)| (path, of(module))).collect())
        };
        Self {
            left: side(|module| &module.left),
            right: side(|module| &module.right),
        }
    }

    /// The variance by component, cumulated, and kept by module.
    /// The band around the cumulated shares spans the modules.
    pub fn charts(&self) -> Vec<Figure> {
        let sides = [
            ("left (outputs)", &self.left),
            ("right (inputs)", &self.right),
        ];
        let scree = sides.map(|(name, side)| {
            let points = side.share.iter().zip(1..);
            let points = points.map(|(share, component)| Point::new(f64::from(component), *share));
            Series::new(name, points.collect())
        });
        let cumulative = sides.map(|(name, side)| {
            let points = side.cumulative.iter().zip(1..).map(|(share, component)| {
                let x = f64::from(component);
                Point::between(x, share.all, share.smallest, share.largest)
            });
            Series::new(name, points.collect())
        });
        let scree = LineChart {
            x: Axis::counted("component"),
            y: Axis::linear("share of the variance"),
            series: scree.to_vec(),
        };
        let cumulative = LineChart {
            x: Axis::counted("components"),
            y: Axis::between("share of the variance", 0.0, 1.0),
            series: cumulative.to_vec(),
        };
        let mut charts = vec![
            scree.figure("Variance of each component"),
            cumulative.figure("Cumulative explained variance"),
        ];
        for (name, side) in sides {
            let caption = format!("Variance kept, {name}");
            charts.extend(module_maps(
                &caption,
                "share of the variance",
                &side.kept,
                None,
            ));
        }
        charts
    }
}

impl SideSpectrum {
    fn of(spectra: Vec<(&String, &Spectrum)>) -> Self {
        let lengths = spectra.iter().map(|(_, spectrum)| spectrum.variance.len());
        let components = lengths.max().unwrap_or(0);
        let total: f64 = spectra.iter().map(|(_, spectrum)| spectrum.total).sum();
        let share = |component: usize| {
            let values = spectra.iter();
            let values = values.filter_map(|(_, spectrum)| spectrum.variance.get(component));
            let sum: f64 = values.map(|&value| f64::from(value)).sum();
            if total > 0.0 { sum / total } else { 0.0 }
        };
        let share: Vec<f64> = (0..components).map(share).collect();
        let by_module: Vec<Vec<f64>> = spectra
            .iter()
            .map(|(_, spectrum)| spectrum.cumulative())
            .collect();
        let mut carried = 0.0;
        let cumulative = share.iter().enumerate().map(|(component, share)| {
            carried += share;
            // A module with fewer components carries no more beyond them.
            let modules = by_module.iter().filter_map(|shares| {
                let last = shares.len().checked_sub(1)?;
                Some(shares[component.min(last)])
            });
            let (smallest, largest) = modules.fold((1.0f64, 0.0f64), |(low, high), share| {
                (low.min(share), high.max(share))
            });
            CumulativeShare {
                all: carried.min(1.0),
                smallest,
                largest,
            }
        });
        Self {
            cumulative: cumulative.collect(),
            share,
            kept: spectra
                .iter()
                .map(|(path, spectrum)| ((*path).clone(), spectrum.kept()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_variance_of_all_modules_together() {
        let spectrum = |variance: &[f32], total| Spectrum {
            variance: variance.to_vec(),
            total,
        };
        let module = |left: Spectrum| ModuleSpectra {
            right: left.clone(),
            left,
        };
        let summary = SpectrumSummary::of(&BTreeMap::from([
            ("a".to_owned(), module(spectrum(&[4.0, 2.0], 8.0))),
            ("b".to_owned(), module(spectrum(&[2.0], 2.0))),
        ]));
        assert_eq!(summary.left.share, [0.6, 0.2]);
        let [first, second] = summary.left.cumulative[..] else {
            panic!("{summary:?}")
        };
        assert_eq!([first.smallest, first.largest], [0.5, 1.0]);
        assert!((second.all - 0.8).abs() < 1e-12);
        assert_eq!([second.smallest, second.largest], [0.75, 1.0]);
        assert_eq!(summary.right.kept["a"], 0.75);
    }
}
