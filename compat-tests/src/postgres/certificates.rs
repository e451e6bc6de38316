//! An authority of a test's own, and a server's certificate from it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of an authority and of one certificate.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's own certificate: whom a client trusts.
    pub root: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them in a folder, all called `name`; the server's is for `names`, such as `DNS:localhost,IP:127.0.0.1`.
    ///
    /// # Errors
    /// If `openssl` is not installed or does not do it.
    pub fn make(folder: &Path, name: &str, names: &str) -> io::Result<Self> {
        let at = |what: &str| folder.join(format!("{name}-{what}"));
        let [root, root_key, request, key, extensions, certificate] =
            ["root.pem", "root.key", "request.pem", "server.key", "extensions", "server.pem"].map(at);
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let as_text = |path: &PathBuf| path.display().to_string();
        let authority = [
            "req",
            "-x509",
            "-days",
            "2",
            "-subj",
            "/CN=an authority of the tests",
            "-keyout",
            &as_text(&root_key),
            "-out",
            &as_text(&root),
        ];
        openssl(&[&authority[..], &new_key].concat())?;
        let asks = ["req", "-subj", "/CN=a server of the tests", "-keyout", &as_text(&key), "-out", &as_text(&request)];
        openssl(&[&asks[..], &new_key].concat())?;
        std::fs::write(&extensions, format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\n"))?;
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &as_text(&request),
            "-CA",
            &as_text(&root),
            "-CAkey",
            &as_text(&root_key),
            "-CAcreateserial",
            "-extfile",
            &as_text(&extensions),
            "-out",
            &as_text(&certificate),
        ])?;
        Ok(Self { root, certificate, key })
    }
}

fn openssl(args: &[&str]) -> io::Result<()> {
    let ran = Command::new("openssl").args(args).output();
    let output =
        ran.map_err(|error| io::Error::other(format!("cannot run openssl (Debian package openssl): {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("openssl {}: {}", args[0], String::from_utf8_lossy(&output.stderr)))),
    }
}
