//! A way that leads by way of a proxy: SOCKS5 (RFC 1928 and 1929), or a web proxy that is asked to CONNECT
//! (RFC 9110, section 9.3.6). Of both, little is spoken; the libraries for it have one error for all that a proxy
//! can say.

use std::{io, net::IpAddr};

use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    outside::Stream,
    proxy::{Barred, Proxy, Speaks},
};
use crate::endpoint::Endpoint;

/// The longest answer of a web proxy that is read.
const MOST_ANSWER_BYTES: usize = 16 << 10;

impl Proxy {
    /// Has a connection to the proxy passed on.
    ///
    /// # Errors
    ///
    /// What the proxy says ([`Barred`]), or the system.
    pub async fn pass_on(
        &self,
        mut stream: Box<dyn Stream>,
        to: &Endpoint,
    ) -> io::Result<Box<dyn Stream>> {
        match self.speaks {
            Speaks::Socks => self.ask_socks(&mut stream, to).await?,
            Speaks::Http => self.ask_http(&mut stream, to).await?,
        }
        Ok(stream)
    }

    async fn ask_socks(&self, stream: &mut Box<dyn Stream>, to: &Endpoint) -> io::Result<()> {
        const VERSION: u8 = 5;
        const NO_LOGIN: u8 = 0;
        const PASSWORD: u8 = 2;
        let methods: &[u8] = if self.login.is_some() { &[NO_LOGIN, PASSWORD] } else { &[NO_LOGIN] };
        let greeting = [&[VERSION, methods.len() as u8], methods].concat();
        stream.write_all(&greeting).await?;
        stream.flush().await?;
        let [version, method] = read(stream).await.map_err(|error| self.cut(error))?;
        if version != VERSION {
            return Err(self.barred("does not answer as a SOCKS5 proxy does"));
        }
        match (method, &self.login) {
            (NO_LOGIN, _) => (),
            (PASSWORD, Some((user, password))) => {
                let (user, password) = (user.as_bytes(), password.expose().as_bytes());
                let [user_length, password_length] =
                    [user, password].map(|text| u8::try_from(text.len()));
                let (Ok(user_length), Ok(password_length)) = (user_length, password_length) else {
                    return Err(self.barred("takes 255 bytes of user name and password at most"));
                };
                let login = [&[1, user_length], user, &[password_length], password].concat();
                stream.write_all(&login).await?;
                stream.flush().await?;
                let [_, status] = read(stream).await.map_err(|error| self.cut(error))?;
                if status != 0 {
                    return Err(self.barred("does not accept `username` and `password`"));
                }
            }
            (_, None) => return Err(self.barred("wants a `username` and a `password`")),
            (_, Some(_)) => {
                return Err(
                    self.barred("wants to know who we are in another way than by a password")
                );
            }
        }
        let mut request = vec![VERSION, 1, 0];
        match to.host_without_zone().parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => {
                request.push(1);
                request.extend(address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                request.push(4);
                request.extend(address.octets());
            }
            Err(_) => {
                let length = u8::try_from(to.host.len());
                request.extend([
                    3,
                    length.map_err(|_| self.barred("cannot look up a name that long"))?,
                ]);
                request.extend(to.host.as_bytes());
            }
        }
        request.extend(to.port.to_be_bytes());
        stream.write_all(&request).await?;
        stream.flush().await?;
        let [_, status, _, kind] = read(stream).await.map_err(|error| self.cut(error))?;
        if status != 0 {
            let why = socks_words(status);
            return Err(self.barred(&format!("does not connect us to {to}: {why}")));
        }
        // The address that it called from, of which nobody has any use.
        let length = match kind {
            1 => 4,
            4 => 16,
            _ => usize::from(read::<1>(stream).await?[0]),
        };
        let mut address = vec![0; length + size_of::<u16>()];
        stream.read_exact(&mut address).await?;
        Ok(())
    }

    async fn ask_http(&self, stream: &mut Box<dyn Stream>, to: &Endpoint) -> io::Result<()> {
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some((user, password)) = &self.login {
            let login = BASE64_STANDARD.encode(format!("{user}:{}", password.expose()));
            request += &format!("Proxy-Authorization: Basic {login}\r\n");
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).await?;
        stream.flush().await?;
        // Byte by byte: what stands behind the answer is for others.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= MOST_ANSWER_BYTES {
                return Err(self.barred("does not answer as a web proxy does"));
            }
            answer.extend(read::<1>(stream).await.map_err(|error| self.cut(error))?);
            if answer.len() == 5 && answer != b"HTTP/" {
                return Err(self.barred("does not answer as a web proxy does"));
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        let line = answer.lines().next().unwrap_or_default();
        let (_, status) = line.split_once(' ').unwrap_or_default();
        match status.get(..3) {
            Some(code) if code.starts_with('2') => Ok(()),
            Some("407") if self.login.is_some() => {
                Err(self.barred("does not accept `username` and `password`"))
            }
            Some("407") => Err(self.barred("wants a `username` and a `password`")),
            _ => {
                const MOST_CHARS: usize = 80;
                let status: String =
                    status.chars().take(MOST_CHARS).flat_map(char::escape_debug).collect();
                Err(self.barred(&format!("does not connect us to {to}: {status}")))
            }
        }
    }

    fn cut(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                self.barred("closed the connection before it answered")
            }
            _ => error,
        }
    }

    fn barred(&self, why: &str) -> io::Error {
        io::Error::other(Barred(format!("the proxy at {} {why}", self.at)))
    }
}

async fn read<const N: usize>(stream: &mut Box<dyn Stream>) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// What a SOCKS5 proxy says (RFC 1928, section 6).
fn socks_words(status: u8) -> &'static str {
    match status {
        2 => "its rules do not allow it",
        3 => "it has no way to that network",
        4 => "no host answers there",
        5 => "nothing listens there",
        6 => "it took too long",
        7 => "it passes no TCP on",
        8 => "it does not know that kind of address",
        _ => "it gives no reason",
    }
}

#[cfg(test)]
mod tests {
    use forebay_yaml::units::Secret;
    use tokio::io::duplex;

    use super::*;

    /// Asks a proxy that answers this, whatever it hears. What it heard, and what came of it.
    async fn ask(proxy: &str, login: Option<(&str, &str)>, answer: &[u8]) -> (Vec<u8>, String) {
        let login = login.map(|(user, password)| (user.to_owned(), Secret::new(password)));
        let proxy = Proxy { login, ..Proxy::parse(proxy).unwrap() };
        let (ours, mut theirs) = duplex(4096);
        theirs.write_all(answer).await.unwrap();
        let to = Endpoint { host: "broker.example".to_owned(), port: 8883 };
        let outcome = proxy.pass_on(Box::new(ours), &to).await;
        let outcome = outcome.err().map_or("passed on".to_owned(), |error| error.to_string());
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        (heard, outcome)
    }
    #[tokio::test]
    async fn a_socks_proxy_hears_the_name_of_the_host_and_who_we_are() {
        let (heard, said) = ask("socks5://p", None, b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0").await;
        assert_eq!(said, "passed on");
        assert_eq!(heard, b"\x05\x01\x00\x05\x01\x00\x03\x0ebroker.example\x22\xb3");
        let me = Some(("me", "pw"));
        let (heard, said) = ask("socks5://p", me, b"\x05\x02\x01\x00\x05\x00\x00\x03\x01xab").await;
        assert_eq!(said, "passed on");
        assert!(heard.starts_with(b"\x05\x02\x00\x02\x01\x02me\x02pw\x05\x01"), "{heard:?}");
    }

    #[tokio::test]
    async fn a_web_proxy_is_asked_to_connect() {
        let (heard, said) =
            ask("http://p", Some(("me", "pw")), b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n").await;
        assert_eq!(said, "passed on");
        let heard = String::from_utf8(heard).unwrap();
        assert_eq!(
            heard,
            "CONNECT broker.example:8883 HTTP/1.1\r\nHost: broker.example:8883\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_told_why() {
        for (proxy, answer, expected) in [
            (
                "socks5://p",
                &b"\x05\xff"[..],
                "the proxy at p:1080 wants a `username` and a `password`",
            ),
            (
                "socks5://p",
                b"\x05\x00\x05\x02\x00\x01",
                "the proxy at p:1080 does not connect us to broker.example:8883: its rules do not allow it",
            ),
            (
                "socks5://p",
                b"\x05\x00\x05\x05\x00\x01",
                "the proxy at p:1080 does not connect us to broker.example:8883: nothing listens there",
            ),
            (
                "socks5://p",
                b"HTTP/1.1 400 Bad Request\r\n\r\n",
                "the proxy at p:1080 does not answer as a SOCKS5 proxy does",
            ),
            (
                "http://p:80",
                b"HTTP/1.1 403 Filtered\r\n\r\n",
                "the proxy at p:80 does not connect us to broker.example:8883: 403 Filtered",
            ),
            (
                "http://p",
                b"HTTP/1.1 407 Who\r\n\r\n",
                "the proxy at p:3128 wants a `username` and a `password`",
            ),
            (
                "http://p",
                b"SSH-2.0-x\r\n",
                "the proxy at p:3128 does not answer as a web proxy does",
            ),
        ] {
            let (_, said) = ask(proxy, None, answer).await;
            assert_eq!(said, expected);
        }
    }
}
