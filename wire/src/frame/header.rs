//! The eight bytes in front of each frame (PROTOCOL 2.1).

/// Bytes of a header.
pub const HEADER: usize = 8;
/// A receiver that does not know the type may skip the frame (PROTOCOL 2.5).
const IGNORABLE: u8 = 0x80;

/// Type, flags and lengths of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The frame's type; never 0, which begins a yamux frame.
    pub kind: u8,
    /// Bit 7: ignorable. The others are 0; receivers ignore them.
    pub flags: u8,
    /// Bytes of the head.
    pub head: u16,
    /// Bytes of the body.
    pub body: u32,
}

impl Header {
    /// The header on the wire.
    pub fn encode(self) -> [u8; HEADER] {
        let [h0, h1] = self.head.to_be_bytes();
        let [b0, b1, b2, b3] = self.body.to_be_bytes();
        [self.kind, self.flags, h0, h1, b0, b1, b2, b3]
    }

    /// Reads a header.
    pub fn decode(bytes: [u8; HEADER]) -> Self {
        let [kind, flags, h0, h1, b0, b1, b2, b3] = bytes;
        Header { kind, flags, head: u16::from_be_bytes([h0, h1]), body: u32::from_be_bytes([b0, b1, b2, b3]) }
    }

    /// Bytes of the whole frame.
    pub fn frame_len(self) -> usize {
        HEADER + usize::from(self.head) + self.body as usize
    }

    /// Whether an unknown frame may be skipped.
    pub fn is_ignorable(self) -> bool {
        self.flags & IGNORABLE != 0
    }
}
