//! Protobuf's wire format: varints, tags, and messages within messages.

/// A message in the making.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

/// One field of a message as read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wire<'a> {
    /// Numbers and booleans.
    Varint(u64),
    /// A double.
    Fixed64(u64),
    /// Strings, bytes and messages.
    Bytes(&'a [u8]),
}

/// Bytes that are no protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Bytes of a varint at most.
const VARINT_MAX: usize = 10;

impl Writer {
    /// With room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            // The cast keeps the low seven bits, which is what is wanted.
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A number; a negative one is written as its two's complement.
    pub fn varint(&mut self, number: u32, value: u64) {
        self.raw_varint(u64::from(number) << 3);
        self.raw_varint(value);
    }

    /// A double.
    pub fn double(&mut self, number: u32, value: f64) {
        self.raw_varint(u64::from(number) << 3 | 1);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// A string or bytes.
    pub fn bytes(&mut self, number: u32, value: &[u8]) {
        self.head(number, value.len());
        self.bytes.extend_from_slice(value);
    }

    /// What goes before so many bytes that are written elsewhere.
    #[inline]
    pub fn head(&mut self, number: u32, length: usize) {
        // Most are short, and of a low number.
        if number < 0x10 && length < 0x80 {
            self.bytes.push((number << 3 | 2) as u8);
            self.bytes.push(length as u8);
        } else {
            self.long_head(number, length);
        }
    }

    fn long_head(&mut self, number: u32, length: usize) {
        self.raw_varint(u64::from(number) << 3 | 2);
        self.raw_varint(length as u64);
    }

    /// A message, written in place; its length is put before it at the end.
    pub fn message<E>(
        &mut self,
        number: u32,
        body: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.head(number, 0);
        let start = self.bytes.len() - 1;
        body(self)?;
        let end = self.bytes.len();
        let length = end - start - 1;
        if length < 0x80 {
            self.bytes[start] = length as u8;
            return Ok(());
        }
        // Written behind the message, from where the place before it is filled after the message has made room.
        self.raw_varint(length as u64);
        let mut prefix = [0; VARINT_MAX];
        let size = self.bytes.len() - end;
        prefix[..size].copy_from_slice(&self.bytes[end..]);
        self.bytes.copy_within(start + 1..end, start + size);
        self.bytes[start..start + size].copy_from_slice(&prefix[..size]);
        self.bytes.truncate(end + size - 1);
        Ok(())
    }
}

/// Reads the fields of a message in order.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next field and its number; `None` at the end.
    #[inline]
    pub fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Malformed> {
        match *self.0 {
            [] => Ok(None),
            // Most are texts and messages, short and of a low number.
            [tag @ 0..0x80, length @ 0..0x80, ref rest @ ..] if tag & 7 == 2 => {
                let (bytes, rest) = rest.split_at_checked(length.into()).ok_or(Malformed)?;
                self.0 = rest;
                Ok(Some(((tag >> 3).into(), Wire::Bytes(bytes))))
            }
            _ => self.any().map(Some),
        }
    }

    /// A field of any sort.
    fn any(&mut self) -> Result<(u32, Wire<'a>), Malformed> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                Wire::Fixed64(u64::from(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?)))
            }
            _ => return Err(Malformed),
        };
        Ok((number, value))
    }

    /// A bare varint, as in a packed list.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        match *self.0 {
            // Most are small.
            [byte @ 0..0x80, ref rest @ ..] => {
                self.0 = rest;
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(Malformed)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }
}
