//! Figures as a table, and growth as a picture.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use crate::Figures;

pub fn of(all: &[Figures]) -> String {
    let head = [
        "scenario",
        "roles",
        "clusters",
        "calls",
        "throttled",
        "virtual s",
        "invocations",
        "longest s",
        "messages",
        "continued",
        "cut off",
        "dead",
        "missing",
    ];
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|f| {
            vec![
                f.scenario.clone(),
                f.roles.to_string(),
                f.clusters.to_string(),
                f.total.to_string(),
                f.throttled.to_string(),
                f.virtual_seconds.to_string(),
                f.invocations.to_string(),
                f.longest_invocation.to_string(),
                f.messages.to_string(),
                f.continued.to_string(),
                f.cut_off.to_string(),
                f.dead_letters.to_string(),
                f.missing.to_string(),
            ]
        })
        .collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].len()).chain([head[column].len()]).max().unwrap_or(0))
        .collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(head.to_vec());
    for row in &rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// Calls of a sweep and of an event, by the size of the fleet; both axes logarithmic, so that what grows in proportion
/// is a line as steep as the grid.
///
/// # Errors
/// The file can't be written.
pub fn plot(all: &[Figures], path: &Path) -> Result<()> {
    let root = SVGBackend::new(path, (800, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("Calls by the size of the fleet", ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d((1_000_f64..1_000_000_f64).log_scale(), (1_f64..100_000_f64).log_scale())?;
    chart.configure_mesh().x_desc("associations").y_desc("calls").draw()?;
    for (scenario, color) in [("sweep, nothing to do", BLUE), ("event", RED)] {
        let points: Vec<(f64, f64)> = all
            .iter()
            .filter(|figures| figures.scenario == scenario)
            .map(|figures| (approximately(figures.associations), approximately(figures.total)))
            .collect();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color))?
            .label(scenario)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a picture")]
fn approximately(count: usize) -> f64 {
    count as f64
}
