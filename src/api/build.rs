//! Has the crate built again when the files that it embeds come or go.

fn main() {
    for path in ["build.rs", "../../ui/dist", "../../dashboards"] {
        println!("cargo::rerun-if-changed={path}");
    }
}
