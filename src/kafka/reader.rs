//! Reads the primitives of a Kafka message that we decode ourselves: headers and Produce.

use bytes::{Buf, Bytes};

use crate::protocol::{KafkaString, ProtocolError, primitives};

/// Why a request could not be decoded; the connection is closed, as Kafka does.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    /// The bytes do not follow the schema.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A length is negative or larger than what is left.
    #[error("length {length} does not fit the {available} bytes left")]
    BadLength {
        /// The length as written.
        length: i64,
        /// The bytes that are left.
        available: usize,
    },
    /// More elements than one request may have.
    #[error("request has more than {0} elements")]
    TooManyElements(usize),
}

/// How lengths are written (KIP-482).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Lengths of fixed width.
    Classic,
    /// Lengths as variable integers plus one, and tagged fields after every structure.
    Flexible,
}

/// Takes primitives from the front of a buffer.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a mut Bytes,
    encoding: Encoding,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a mut Bytes, encoding: Encoding) -> Self {
        Self { bytes, encoding }
    }

    pub(super) fn i16(&mut self) -> Result<i16, DecodeError> {
        primitives::read_i16(self.bytes).map_err(protocol)
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        primitives::read_i32(self.bytes).map_err(protocol)
    }

    /// Reads the number of elements of an array that may not be null.
    pub(super) fn array_length(&mut self) -> Result<usize, DecodeError> {
        let length = self.length32()?.unwrap_or(-1);
        usize::try_from(length).map_err(|_| self.bad_length(length))
    }

    pub(super) fn string(&mut self) -> Result<KafkaString, DecodeError> {
        self.nullable_string()?.ok_or_else(|| self.bad_length(-1))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<KafkaString>, DecodeError> {
        let length = match self.encoding {
            Encoding::Classic => {
                let length = i64::from(self.i16()?);
                (length != -1).then_some(length)
            }
            Encoding::Flexible => self.length32()?,
        };
        let Some(length) = length else { return Ok(None) };
        let text = self.take(length)?;
        KafkaString::new(text).map(Some).map_err(|e| DecodeError::Protocol(e.into()))
    }

    pub(super) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, DecodeError> {
        match self.length32()? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// Skips the tagged fields that end every structure of a flexible version; tags that are not
    /// known are never an error.
    pub(super) fn skip_tags(&mut self) -> Result<(), DecodeError> {
        if self.encoding == Encoding::Classic {
            return Ok(());
        }
        let count = self.varint()?;
        for _ in 0..count {
            let _tag = self.varint()?;
            let bytes = self.varint()?;
            self.take(i64::from(bytes))?;
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u32, DecodeError> {
        primitives::read_unsigned_varint(self.bytes).map_err(protocol)
    }

    /// Reads the length of an array or of bytes; none is null.
    fn length32(&mut self) -> Result<Option<i64>, DecodeError> {
        let length = match self.encoding {
            Encoding::Classic => i64::from(self.i32()?),
            Encoding::Flexible => i64::from(self.varint()?) - 1,
        };
        Ok((length != -1).then_some(length))
    }

    fn take(&mut self, length: i64) -> Result<Bytes, DecodeError> {
        match usize::try_from(length) {
            Ok(length) if length <= self.bytes.remaining() => Ok(self.bytes.split_to(length)),
            _ => Err(self.bad_length(length)),
        }
    }

    fn bad_length(&self, length: i64) -> DecodeError {
        DecodeError::BadLength { length, available: self.bytes.remaining() }
    }
}

fn protocol(error: primitives::PrimitiveError) -> DecodeError {
    DecodeError::Protocol(error.into())
}
