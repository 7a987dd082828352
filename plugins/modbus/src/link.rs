//! A link to Modbus devices, one request at a time: over TCP, over a serial line, or over TCP to a
//! serial line that somebody else has.
//!
//! What stands in an answer is tokio-modbus's to say. Its client is not used: it takes the first
//! frame that comes for the answer, whatever was asked before.

use std::{
    fmt,
    io::{self, ErrorKind},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use forebay_sdk::{
    Endpoint, Figure, Period, Voice, World,
    connection::Down,
    world::{Dial, Stream},
};
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    select,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_modbus::{
    ExceptionCode, ExceptionResponse, Response,
    bytes::Bytes,
    prelude::{ConformityLevel, ReadDeviceIdentificationResponse},
};

use crate::{
    ask::Ask,
    block::Block,
    frame::{Frames, Framing, Stray},
    serial::SerialLine,
};

/// Where the devices are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A device or a gateway on the network, and how frames are told apart on the way there.
    Network(Endpoint, Framing),
    /// A serial line of this machine.
    Serial(PathBuf, SerialLine),
}

/// What a device says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Registers(Vec<u16>),
    Bits(Vec<bool>),
    /// What was to be written is written.
    Written,
    Identity(Identity),
}

/// What a device says of itself, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// By their numbers: 0 who made it, 1 what it is, 2 its version, 4 its name, 5 that of its model.
    pub objects: Vec<(u8, String)>,
    /// Where it goes on.
    pub next: Option<u8>,
    /// Whether it has more than the basic ones.
    pub is_regular: bool,
}

impl From<ReadDeviceIdentificationResponse> for Identity {
    fn from(response: ReadDeviceIdentificationResponse) -> Identity {
        use ConformityLevel::{BasicIdentification, BasicIdentificationStreamOnly};
        let basic = [BasicIdentification, BasicIdentificationStreamOnly];
        let text = |value: &[u8]| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
        let objects = response.device_id_objects.iter();
        Identity {
            objects: objects.map(|object| (object.id, text(&object.value))).collect(),
            next: response.more_follows.then_some(response.next_object_id),
            is_regular: !basic.contains(&response.conformity_level),
        }
    }
}

impl Answer {
    /// What of the answer to one block is that to a part of it.
    pub fn part(&self, whole: Block, part: Block) -> Answer {
        let position = whole.position_of(part);
        match self {
            Answer::Registers(values) => {
                Answer::Registers(values.get(position).unwrap_or_default().to_vec())
            }
            Answer::Bits(bits) => Answer::Bits(bits.get(position).unwrap_or_default().to_vec()),
            Answer::Written | Answer::Identity(_) => self.clone(),
        }
    }
}

/// Why a request came to nothing.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The device answered that it will not.
    Exception(ExceptionCode),
    /// No answer in time, and what came in its stead.
    Silence { patience: Period, stray: Option<Stray> },
    /// Not asked, because the device did not answer lately.
    Resting(Rest),
    /// There is no link. Says why.
    NotConnected(Down),
    /// The other side closed the link before it answered. Says who, and what came before.
    HungUp { place: Arc<str>, stray: Option<Stray> },
    /// Anything else, in words. The link is of no more use.
    Broken(String),
}

/// How a device is left alone that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Until it is asked again.
    pub left: Period,
    /// How often it is asked until it answers.
    pub every: Period,
}

/// A link to Modbus devices. Of no use any more when a request was not waited for.
pub struct Link {
    stream: Box<dyn Stream>,
    frames: Frames,
    place: Arc<str>,
    voice: Voice,
    /// One for all requests: to put a timer off costs less than to set one.
    patience: Pin<Box<Sleep>>,
}

/// More than any frame.
const BUFFER_BYTES: usize = 512;
/// A line that is never silent for as long as it should be is not waited for any longer.
const LONGEST_NOISE: Duration = Duration::from_secs(1);

impl Place {
    /// How frames are told apart there.
    pub fn framing(&self) -> Framing {
        match self {
            Place::Network(_, framing) => *framing,
            Place::Serial(..) => Framing::Rtu,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Network(to, _) => to.fmt(f),
            Place::Serial(device, _) => device.display().fmt(f),
        }
    }
}

impl Link {
    /// Connects, or opens the line. The voice hears how many bytes go to and fro.
    pub async fn open(
        world: &World,
        to: &Place,
        patience: Period,
        voice: &Voice,
    ) -> anyhow::Result<Link> {
        let opening = async {
            match to {
                Place::Network(to, _) => world.connect(Dial::new(to.clone())).await,
                Place::Serial(device, line) => world.serial(line.of(device)).await,
            }
        };
        let verb = if matches!(to, Place::Serial(..)) { "opening" } else { "connecting to" };
        let stream = match timeout(*patience, opening).await {
            Ok(stream) => stream.with_context(|| format!("{verb} {to}"))?,
            Err(_) => anyhow::bail!("{verb} {to}: no answer within {patience}"),
        };
        let frames = Frames::new(to.framing());
        let patience = Box::pin(sleep(*patience));
        Ok(Link { stream, frames, place: to.to_string().into(), voice: voice.clone(), patience })
    }

    /// Asks a device, and waits for its answer.
    pub async fn call(&mut self, unit: u8, ask: &Ask, patience: Period) -> Result<Answer, Failure> {
        self.forget_what_came();
        let request = self.frames.ask(unit, &ask.request());
        self.patience.as_mut().reset(Instant::now() + *patience);
        match self.exchange(&request).await {
            Ok(Some(answer)) => self.understand(answer, ask),
            Ok(None) => Err(Failure::Silence { patience, stray: self.frames.stray() }),
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// Throws away what came while nothing was asked: it answers no request that is still to come.
    fn forget_what_came(&mut self) {
        let mut buffer = [0; BUFFER_BYTES];
        while let Some(Ok(count @ 1..)) = self.stream.read(&mut buffer).now_or_never() {
            self.voice.count(Figure::BytesIn, count as u64);
        }
    }

    /// Throws away what comes, until nothing has come for so long.
    pub async fn settle(&mut self, silence: Duration) {
        let mut buffer = [0; BUFFER_BYTES];
        let settled = async {
            while let Ok(Ok(1..)) = timeout(silence, self.stream.read(&mut buffer)).await {}
        };
        let _ = timeout(LONGEST_NOISE, settled).await;
    }

    /// None when nobody answers for as long as is waited.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Link { stream, frames, voice, patience, .. } = self;
        let exchange = async {
            stream.write_all(request).await?;
            stream.flush().await?;
            voice.count(Figure::BytesOut, request.len() as u64);
            let mut buffer = [0; BUFFER_BYTES];
            loop {
                let count = stream.read(&mut buffer).await?;
                if count == 0 {
                    return Err(ErrorKind::ConnectionAborted.into());
                }
                voice.count(Figure::BytesIn, count as u64);
                if let Some(answer) = frames.take(&buffer[..count]) {
                    return Ok(Some(answer));
                }
            }
        };
        select! {
            biased;
            exchanged = exchange => exchanged,
            () = patience => Ok(None),
        }
    }

    fn understand(&self, answer: Vec<u8>, ask: &Ask) -> Result<Answer, Failure> {
        let answer = Bytes::from(answer);
        if let Ok(ExceptionResponse { exception, .. }) = ExceptionResponse::try_from(answer.clone())
        {
            return Err(Failure::Exception(exception));
        }
        match Response::try_from(answer) {
            Ok(
                Response::ReadHoldingRegisters(values)
                | Response::ReadInputRegisters(values)
                | Response::ReadWriteMultipleRegisters(values),
            ) => Ok(Answer::Registers(values)),
            Ok(Response::ReadCoils(mut bits) | Response::ReadDiscreteInputs(mut bits)) => {
                // They come in whole bytes.
                bits.truncate(ask.reads().map_or(0, |block| block.count.into()));
                Ok(Answer::Bits(bits))
            }
            Ok(Response::ReadDeviceIdentification(answer)) => Ok(Answer::Identity(answer.into())),
            Ok(_) => Ok(Answer::Written),
            Err(error) => Err(Failure::Broken(format!("{}: {error}", self.place))),
        }
    }

    fn explain(&self, error: &io::Error) -> Failure {
        match error.kind() {
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Failure::HungUp { place: Arc::clone(&self.place), stray: self.frames.stray() }
            }
            _ => Failure::Broken(error.to_string()),
        }
    }
}

impl Failure {
    /// Whether the device was asked and did not answer; also when a gateway says so in its place (MODBUS
    /// Application Protocol V1.1b3, section 7).
    pub fn is_silence(&self) -> bool {
        use ExceptionCode::{GatewayPathUnavailable, GatewayTargetDevice};
        matches!(
            self,
            Failure::Silence { .. }
                | Failure::Exception(GatewayPathUnavailable | GatewayTargetDevice)
        )
    }

    /// As the error of a sink: while its connection is down, it waits for that.
    pub fn into_error(self) -> anyhow::Error {
        match self {
            Failure::NotConnected(_) => Down::new(self.to_string()).into(),
            failure => failure.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Exception(ExceptionCode::Custom(code)) => write!(f, "exception {code}"),
            Failure::Exception(code) => {
                let words = code.to_string().to_lowercase();
                write!(f, "{words} (exception {})", u8::from(*code))
            }
            Failure::Silence { patience, stray: None } => write!(f, "no answer within {patience}"),
            Failure::Silence { patience, stray: Some(stray) } => {
                write!(f, "no answer within {patience}; what came was {stray}")
            }
            // The same words each time, so that a log that leaves out what it said lately knows them.
            Failure::Resting(Rest { every, .. }) => {
                let seconds = every.as_millis().div_ceil(1000);
                write!(f, "not asked: it does not answer, and is asked every {seconds}s")
            }
            Failure::NotConnected(reason) => write!(f, "not connected: {reason}"),
            Failure::HungUp { place, stray: None } => write!(f, "{place} closed the connection"),
            Failure::HungUp { place, stray: Some(stray) } => {
                write!(f, "{place} closed the connection; what came was {stray}")
            }
            Failure::Broken(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Failure {}
