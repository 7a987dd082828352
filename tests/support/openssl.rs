//! Certificates and servers as people make them with `openssl`, right and wrong.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Stdio},
};

use tempfile::TempDir;

use super::{command, free_port, kill, spawn, until};

/// A folder of certificates: each name has a `NAME.pem` and a `NAME.key`.
pub struct Certificates(TempDir);

/// How a certificate is made, beside its name and who issues it.
#[derive(Clone, Copy)]
pub struct Make<'a> {
    /// Lines of its extensions; none for the old form.
    pub extensions: &'a str,
    /// From when to when, as `YYMMDDHHMMSSZ`.
    pub from: &'a str,
    pub until: &'a str,
}

impl Default for Make<'_> {
    fn default() -> Self {
        Make {
            extensions: "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
            from: "200101000000Z",
            until: "491231235959Z",
        }
    }
}

impl Certificates {
    /// With a CA called `ca`.
    #[track_caller]
    pub fn new() -> Certificates {
        let made = Certificates(tempfile::tempdir().expect("a folder for temporary files"));
        fs::write(made.place("index"), "").expect("writing a test file");
        made.authority("ca");
        made
    }

    /// A CA that has issued itself.
    #[track_caller]
    pub fn authority(&self, name: &str) {
        let subject = format!("/CN={name}");
        self.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            &subject,
            "-keyout",
            &self.shown(name, "key"),
            "-out",
            &self.shown(name, "pem"),
        ]);
    }

    /// A key, and a certificate for it that `issuer` has signed.
    #[track_caller]
    pub fn issue(&self, name: &str, issuer: &str, make: Make<'_>) {
        let (subject, request) = (format!("/CN={name}"), self.shown(name, "csr"));
        self.openssl(&[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &subject,
            "-keyout",
            &self.shown(name, "key"),
            "-out",
            &request,
        ]);
        let old = if make.extensions.is_empty() { "" } else { "x509_extensions = extensions\n" };
        let config = format!(
            "[ca]\ndefault_ca = here\n[here]\nnew_certs_dir = {0}\ndatabase = {0}/index\nrand_serial = yes\n\
             default_md = sha256\nunique_subject = no\npolicy = any\n{old}[any]\ncommonName = supplied\n\
             [extensions]\n{1}",
            self.0.path().display(),
            make.extensions
        );
        fs::write(self.place("ca.conf"), config).expect("writing a test file");
        self.openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            &self.shown("ca", "conf"),
            "-in",
            &request,
            "-out",
            &self.shown(name, "pem"),
            "-cert",
            &self.shown(issuer, "pem"),
            "-keyfile",
            &self.shown(issuer, "key"),
            "-startdate",
            make.from,
            "-enddate",
            make.until,
        ]);
    }

    /// Where `NAME.ENDING` is.
    pub fn shown(&self, name: &str, ending: &str) -> String {
        self.place(&format!("{name}.{ending}")).display().to_string()
    }

    fn place(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    #[track_caller]
    pub fn openssl(&self, arguments: &[&str]) {
        let output = command("openssl").args(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {said}");
    }
}

/// An `openssl s_server`, which answers a handshake and then nothing. Ends with the test.
pub struct TlsServer {
    process: Child,
    pub port: u16,
}

impl TlsServer {
    #[track_caller]
    pub fn start(certificates: &Certificates, name: &str, options: &[&str]) -> TlsServer {
        let port = free_port();
        let mut command = command("openssl");
        command.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")]);
        command.args(["-cert", &certificates.shown(name, "pem")]);
        command.args(["-key", &certificates.shown(name, "key")]).args(options);
        let process = spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let server = TlsServer { process, port };
        until("openssl listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}
