//! Where fuzzing begins: inputs that a target writes into its corpus when it starts, because chance would look for them long.

use std::path::{Path, PathBuf};

/// Writes inputs into the corpus of a target.
pub fn seed(target: &str, inputs: impl IntoIterator<Item = Vec<u8>>) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&corpus).expect("the corpus can be written");
    for (number, input) in inputs.into_iter().enumerate() {
        std::fs::write(corpus.join(format!("seed-{number}")), input).expect("the corpus can be written");
    }
}

/// The bytes of the golden files in a folder of the house whose names begin with `prefix`.
pub fn golden(folder: &str, prefix: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../..", folder].iter().collect();
    let files = std::fs::read_dir(folder).expect("the golden files are there").flatten();
    let wanted = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
    wanted.map(|file| unhex(&std::fs::read_to_string(file.path()).expect("a golden file is text"))).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::bytes).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("two hex digits");
    digits.chunks_exact(2).map(byte).collect()
}
