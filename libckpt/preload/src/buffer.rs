//! Text in a fixed place on the stack.

/// Up to `N - 1` bytes, always followed by a NUL. What does not fit is left out, and noted.
pub(crate) struct Buffer<const N: usize> {
    bytes: [u8; N],
    length: usize,
    cut: bool,
}

impl<const N: usize> Buffer<N> {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], length: 0, cut: false }
    }

    /// Appends bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // The last byte stays NUL.
            match self.bytes.get_mut(self.length) {
                Some(place) if self.length + 1 < N => {
                    *place = *byte;
                    self.length += 1;
                }
                _ => self.cut = true,
            }
        }
    }

    /// Appends a number in decimal.
    pub(crate) fn put_number(&mut self, number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b"0123456789"[(rest % 10) as usize];
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.put(&digits[at..]);
    }

    /// Appends a number as 16 hexadecimal digits.
    pub(crate) fn put_hex(&mut self, number: u64) {
        for byte in number.to_be_bytes() {
            self.put(&[
                b"0123456789abcdef"[usize::from(byte >> 4)],
                b"0123456789abcdef"[usize::from(byte & 15)],
            ]);
        }
    }

    /// Appends a JSON string of bytes that are UTF-8, or else are shown as `?`.
    pub(crate) fn put_json(&mut self, text: &[u8]) {
        let valid = core::str::from_utf8(text).is_ok();
        self.put(b"\"");
        for byte in text {
            match byte {
                b'"' | b'\\' => self.put(&[b'\\', *byte]),
                0..0x20 => self.put(b" "),
                0x80.. if !valid => self.put(b"?"),
                _ => self.put(&[*byte]),
            }
        }
        self.put(b"\"");
    }

    /// What was put.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The same, ended by a NUL, for the C library.
    pub(crate) fn c_str(&self) -> *const libc::c_char {
        self.bytes.as_ptr().cast()
    }

    /// Whether all that was put is there.
    pub(crate) fn is_whole(&self) -> bool {
        !self.cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_numbers() {
        let mut buffer = Buffer::<64>::new();
        buffer.put(b"a");
        buffer.put_number(0);
        buffer.put_number(u64::MAX);
        buffer.put_hex(0xfe);
        assert_eq!(buffer.bytes(), b"a01844674407370955161500000000000000fe");
        assert!(buffer.is_whole());
    }

    #[test]
    fn json_strings() {
        let mut buffer = Buffer::<64>::new();
        buffer.put_json("a\"b\\c\nä".as_bytes());
        buffer.put_json(b"\xff");
        assert_eq!(buffer.bytes(), "\"a\\\"b\\\\c ä\"\"?\"".as_bytes());
    }

    #[test]
    fn what_does_not_fit_is_cut_and_ended() {
        let mut buffer = Buffer::<4>::new();
        buffer.put(b"abcdef");
        assert_eq!(buffer.bytes(), b"abc");
        assert!(!buffer.is_whole());
    }
}
