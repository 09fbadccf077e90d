//! One connection to a memcached, with one question at a time.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::{Looked, TierError, TierLease};
use super::wire::{Item, Reply, name, parse};
use super::{Ask, IS_VALUE, Outcome, Settings, TTL_MAX};

/// Room for an answer at first; it grows as far as the largest value needs.
const FIRST: usize = 4096;

pub(super) struct Connection {
    stream: TcpStream,
    /// What came and was not read yet.
    buffer: Vec<u8>,
    /// Which run of the server this is.
    pub(super) run: u64,
}

/// An answer without its bytes.
#[derive(Debug)]
enum Answer {
    Looked(Looked),
    End,
    Done,
    NotStored,
    Changed,
    NotFound,
}

impl Connection {
    /// Connects and finds out which run of the server it is; if nobody has said so yet, it is `run`.
    pub(super) async fn open(settings: &Settings, run: u64) -> Result<Self, TierError> {
        let address = &settings.address;
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut connection = Self {
            stream,
            buffer: Vec::with_capacity(FIRST),
            run,
        };
        let name = connection.tell_run(settings).await?;
        connection.send(&[b"gets ", &name, b"\r\n"]).await?;
        // Gone again at once: then nobody else is of the same run.
        if let Some(Looked::Value { bytes, .. }) = connection.text_answer(settings, &name).await? {
            let known = std::str::from_utf8(&bytes).ok();
            connection.run = known
                .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                .ok_or_else(|| TierError::Garbage("a run that is no number".to_owned()))?;
        }
        Ok(connection)
    }

    /// Says which run it is, unless somebody has said so.
    async fn tell_run(&mut self, settings: &Settings) -> Result<Vec<u8>, TierError> {
        let name = name(&settings.prefix, b"stackbeam-run");
        let line = format!(" {IS_VALUE} 0 16\r\n{:016x}\r\n", self.run);
        self.send(&[b"add ", &name, line.as_bytes()]).await?;
        match self.answer(settings, &name).await? {
            Answer::Done | Answer::NotStored => Ok(name),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether nothing is left over: what is would be taken for the next answer.
    pub(super) const fn is_quiet(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) async fn ask(
        &mut self,
        settings: &Settings,
        name: &[u8],
        ask: &Ask<'_>,
    ) -> Result<Outcome, TierError> {
        let lease = settings.lease.min(TTL_MAX).as_secs().max(1);
        match ask {
            Ask::Get if settings.is_text => self.get_text(settings, name, lease).await,
            Ask::Get => {
                // On a miss, makes an empty item that lives as long as the lease, and tells its number.
                let flags = format!(" v f c t k N{lease}\r\n");
                self.send(&[b"mg ", name, flags.as_bytes()]).await?;
                match self.answer(settings, name).await? {
                    Answer::Looked(looked) => Ok(Outcome::Looked(looked)),
                    Answer::End => Ok(Outcome::Looked(Looked::Nothing(None))),
                    other => Err(unexpected(&other)),
                }
            }
            Ask::Fill {
                lease,
                value,
                seconds,
            } => {
                let (len, unique) = (value.len(), lease.number());
                let (command, line) = if settings.is_text {
                    let line = format!(" {IS_VALUE} {seconds} {len} {unique}\r\n");
                    (&b"cas "[..], line)
                } else {
                    let line = format!(" {len} C{unique} F{IS_VALUE} T{seconds}\r\n");
                    (&b"ms "[..], line)
                };
                self.send(&[command, name, line.as_bytes(), value, b"\r\n"])
                    .await?;
                match self.answer(settings, name).await? {
                    Answer::Done => Ok(Outcome::Is(true)),
                    Answer::NotStored | Answer::Changed | Answer::NotFound => {
                        Ok(Outcome::Is(false))
                    }
                    other => Err(unexpected(&other)),
                }
            }
            Ask::Remove => {
                let command = if settings.is_text {
                    &b"delete "[..]
                } else {
                    b"md "
                };
                self.send(&[command, name, b"\r\n"]).await?;
                match self.answer(settings, name).await? {
                    Answer::Done | Answer::NotFound => Ok(Outcome::Is(true)),
                    other => Err(unexpected(&other)),
                }
            }
            Ask::Clear => {
                self.send(&[b"flush_all\r\n"]).await?;
                match self.answer(settings, name).await? {
                    Answer::Done => {}
                    other => return Err(unexpected(&other)),
                }
                self.tell_run(settings).await?;
                Ok(Outcome::Is(true))
            }
        }
    }

    /// Looks a key up by the text protocol; if there is nothing, puts an empty item there and looks again.
    async fn get_text(
        &mut self,
        settings: &Settings,
        name: &[u8],
        lease: u64,
    ) -> Result<Outcome, TierError> {
        self.send(&[b"gets ", name, b"\r\n"]).await?;
        let mut looked = self.text_answer(settings, name).await?;
        if looked.is_none() {
            let line = format!(" 0 {lease} 0\r\n\r\ngets ");
            self.send(&[b"add ", name, line.as_bytes(), name, b"\r\n"])
                .await?;
            match self.answer(settings, name).await? {
                Answer::Done | Answer::NotStored => {}
                other => return Err(unexpected(&other)),
            }
            looked = self.text_answer(settings, name).await?;
        }
        Ok(Outcome::Looked(looked.unwrap_or(Looked::Nothing(None))))
    }

    /// A value and the end, or the end.
    async fn text_answer(
        &mut self,
        settings: &Settings,
        name: &[u8],
    ) -> Result<Option<Looked>, TierError> {
        match self.answer(settings, name).await? {
            Answer::End => Ok(None),
            Answer::Looked(looked) => match self.answer(settings, name).await? {
                Answer::End => Ok(Some(looked)),
                other => Err(unexpected(&other)),
            },
            other => Err(unexpected(&other)),
        }
    }

    async fn send(&mut self, parts: &[&[u8]]) -> Result<(), TierError> {
        self.stream
            .write_all(&parts.concat())
            .await
            .map_err(unreachable)
    }

    /// The next answer. Room for at most the largest value and a line is ever made.
    async fn answer(&mut self, settings: &Settings, name: &[u8]) -> Result<Answer, TierError> {
        loop {
            let parsed = parse(&self.buffer, settings.value_max)
                .map_err(|nonsense| TierError::Garbage(nonsense.0.to_owned()))?;
            if let Some((reply, len)) = parsed {
                let answer = owned(reply, name);
                self.buffer.drain(..len);
                // One large value must not keep its room for ever.
                self.buffer.shrink_to(FIRST);
                return answer;
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            if read.map_err(unreachable)? == 0 {
                return Err(unreachable(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

fn owned(reply: Reply<'_>, name: &[u8]) -> Result<Answer, TierError> {
    Ok(match reply {
        Reply::Value(item) if item.key != name => {
            return Err(TierError::Garbage("a value of another key".to_owned()));
        }
        Reply::Value(Item {
            flags: IS_VALUE,
            data,
            left,
            ..
        }) => Answer::Looked(Looked::Value {
            bytes: data.to_vec(),
            left: left.map(std::time::Duration::from_secs),
        }),
        Reply::Value(item) => Answer::Looked(Looked::Nothing(Some(TierLease::new(item.unique)))),
        Reply::End => Answer::End,
        Reply::Done => Answer::Done,
        Reply::NotStored => Answer::NotStored,
        Reply::Changed => Answer::Changed,
        Reply::NotFound => Answer::NotFound,
        Reply::Refused(line) => {
            let line = String::from_utf8_lossy(line).into_owned();
            return Err(TierError::Refused(line));
        }
    })
}

fn unexpected(answer: &Answer) -> TierError {
    TierError::Garbage(format!("an answer to another question: {answer:?}"))
}

fn unreachable(error: io::Error) -> TierError {
    TierError::Unreachable(error.to_string())
}
