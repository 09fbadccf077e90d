//! Every duel of every crate under criterion: `cargo bench --manifest-path benches/Cargo.toml [filter]`.

use benches::{figures, kit::Report};
use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut report = Report::to_criterion(&mut criterion);
    for (name, figures) in figures::ALL {
        report.start(name);
        if let Err(error) = figures(&mut report) {
            eprintln!("{name}: {error}");
            std::process::exit(1);
        }
    }
    drop(report);
    criterion.final_summary();
}
