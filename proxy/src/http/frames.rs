//! The headers of HTTP/2 frames on a stream of bytes (RFC 9113 section 4.1): what comes, how often, and whether it is whole.

/// What a client sends first (RFC 9113 section 3.4).
const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;
/// The longest start of a payload that is looked at: that of GOAWAY up to its error code.
const PREFIX_BYTES: usize = 8;

/// The types that are told apart (RFC 9113 section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Which way the bytes go, and so what of them is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Begins with the preface; payloads are skipped.
    FromClient,
    /// The error codes of RST_STREAM and GOAWAY are read.
    ToClient,
}

/// How much of a frame has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Its header, and of its payload what [`Frame`] tells.
    Begun,
    /// All of it.
    Whole,
}

/// The header of a frame, and the little of its payload that anybody here asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) length: u32,
    pub(crate) stream: u32,
    flags: u8,
    /// Of RST_STREAM and GOAWAY on the way to the client.
    pub(crate) code: u8,
}

impl Frame {
    /// A response or request is complete with it.
    pub(crate) fn ends_stream(self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0
    }

    /// A header block is complete with it.
    pub(crate) fn ends_head(self) -> bool {
        self.is_head() && self.flags & END_HEADERS != 0
    }

    fn is_head(self) -> bool {
        matches!(self.kind, kind::HEADERS | kind::CONTINUATION)
    }
}

/// Follows frames, however their bytes arrive.
#[derive(Debug)]
pub(crate) struct Frames {
    way: Way,
    /// Of the preface, not yet seen.
    preface: usize,
    start: [u8; HEADER_BYTES + PREFIX_BYTES],
    have: usize,
    /// Bytes of the payload, not yet seen.
    skip: usize,
    last: Option<Frame>,
    /// A header block began and its END_HEADERS has not come.
    block: bool,
    /// Heads and frames that began. Tells one unfinished head from the next.
    begun: u64,
}

impl Frames {
    pub(crate) fn new(way: Way) -> Self {
        let preface = if way == Way::FromClient { PREFACE_BYTES } else { 0 };
        let start = [0; HEADER_BYTES + PREFIX_BYTES];
        Self { way, preface, start, have: 0, skip: 0, last: None, block: false, begun: 0 }
    }

    /// Calls `seen` with each frame twice, when it has begun and when it is whole; stops at the first that it refuses.
    pub(crate) fn follow<E>(
        &mut self,
        mut bytes: &[u8],
        mut seen: impl FnMut(Frame, Seen) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.preface > 0 {
                pass(&mut bytes, &mut self.preface);
                continue;
            }
            let frame = if self.skip > 0 {
                pass(&mut bytes, &mut self.skip);
                self.last
            } else {
                let begun = self.take(&mut bytes);
                if let Some(frame) = begun {
                    seen(frame, Seen::Begun)?;
                }
                begun
            };
            if let Some(frame) = frame.filter(|_| self.skip == 0) {
                seen(frame, Seen::Whole)?;
            }
        }
        Ok(())
    }

    /// The number of the head that has begun and is not whole: a header block, the preface, or a frame other than DATA
    /// (whose bytes are a body's).
    pub(crate) fn unfinished_head(&self) -> Option<u64> {
        let begun = (1..PREFACE_BYTES).contains(&self.preface) || self.have > 0;
        let payload = self.skip > 0 && self.last.is_some_and(|frame| frame.kind != kind::DATA);
        (self.block || begun || payload).then_some(self.begun)
    }

    /// Whether the next byte begins a frame.
    pub(crate) fn at_boundary(&self) -> bool {
        self.preface == 0 && self.have == 0 && self.skip == 0
    }

    /// Takes bytes of a frame's start; the frame, when that is whole.
    fn take(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        if self.have == 0 && !self.block {
            self.begun = self.begun.wrapping_add(1);
        }
        let wanted = self.wanted();
        let room = self.start.get_mut(self.have..wanted)?;
        let count = room.len().min(bytes.len());
        let (now, later) = bytes.split_at(count);
        room.get_mut(..count)?.copy_from_slice(now);
        *bytes = later;
        self.have += count;
        // With the header, more may be wanted.
        if self.have < self.wanted() {
            return None;
        }
        let frame = self.frame();
        self.skip = length(self.start).saturating_sub(self.have.saturating_sub(HEADER_BYTES));
        self.have = 0;
        if frame.is_head() {
            self.block = frame.flags & END_HEADERS == 0;
        }
        self.last = Some(frame);
        Some(frame)
    }

    /// How much of the frame is needed to judge it.
    fn wanted(&self) -> usize {
        if self.have < HEADER_BYTES || self.way == Way::FromClient {
            return HEADER_BYTES;
        }
        let [_, _, _, kind, ..] = self.start;
        let prefix = match kind {
            kind::RST_STREAM => 4,
            kind::GOAWAY => 8,
            _ => 0,
        };
        HEADER_BYTES + prefix.min(length(self.start))
    }

    fn frame(&self) -> Frame {
        let [_, _, _, kind, flags, a, b, c, d, _, _, _, reset, _, _, _, goaway] = self.start;
        // Without the reserved bit (RFC 9113 section 4.1).
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        let code = match (self.way, kind) {
            (Way::ToClient, kind::RST_STREAM) => reset,
            (Way::ToClient, kind::GOAWAY) => goaway,
            _ => 0,
        };
        Frame { kind, length: u32::try_from(length(self.start)).unwrap_or(u32::MAX), stream, flags, code }
    }
}

fn pass(bytes: &mut &[u8], left: &mut usize) {
    let count = (*left).min(bytes.len());
    *left -= count;
    *bytes = bytes.get(count..).unwrap_or_default();
}

fn length([a, b, c, ..]: [u8; HEADER_BYTES + PREFIX_BYTES]) -> usize {
    usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn seen(frames: &mut Frames, bytes: &[u8]) -> Vec<Frame> {
        let mut all = Vec::new();
        let mut whole = Vec::new();
        let followed = frames.follow(bytes, |frame, seen| {
            match seen {
                Seen::Begun => all.push(frame),
                Seen::Whole => whole.push(frame),
            }
            Ok::<_, ()>(())
        });
        followed.unwrap();
        // One may be under way from before, one may go on after.
        assert!(all.len().abs_diff(whole.len()) <= 1);
        all
    }

    #[test]
    fn reads_error_codes_on_the_way_to_the_client_only() {
        let bytes =
            [frame(3, 0, &[0, 0, 0, 5]), frame(7, 0, &[0, 0, 0, 9, 0, 0, 0, 11, b'x']), frame(0, 1, b"")];
        let codes = |way, bytes: &[u8]| -> Vec<(u8, u8)> {
            seen(&mut Frames::new(way), bytes).iter().map(|frame| (frame.kind, frame.code)).collect()
        };
        assert_eq!(codes(Way::ToClient, &bytes.concat()), [(3, 5), (7, 11), (0, 0)]);
        let from = [vec![b'P'; PREFACE_BYTES], bytes.concat()].concat();
        assert_eq!(codes(Way::FromClient, &from), [(3, 0), (7, 0), (0, 0)]);
        // Broken frames that are shorter than their error code.
        assert_eq!(codes(Way::ToClient, &[frame(3, 0, &[1]), frame(6, 0, &[0; 8])].concat()).len(), 2);
    }

    #[test]
    fn tells_what_has_begun_and_is_not_whole() {
        let mut frames = Frames::new(Way::FromClient);
        assert_eq!(frames.unfinished_head(), None);
        seen(&mut frames, &[b'P'; 10]);
        assert!(frames.unfinished_head().is_some());
        seen(&mut frames, &[b'P'; 14]);
        assert_eq!(frames.unfinished_head(), None);

        // One block is one head, however many frames it has.
        seen(&mut frames, &frame(1, 0, b"abc"));
        let first = frames.unfinished_head();
        assert!(first.is_some());
        for _ in 0..3 {
            seen(&mut frames, &frame(9, 0, b"abc"));
            assert_eq!(frames.unfinished_head(), first);
        }
        let end = frame(9, END_HEADERS, b"abc");
        seen(&mut frames, &end[..10]);
        assert_eq!(frames.unfinished_head(), first);
        seen(&mut frames, &end[10..]);
        assert_eq!(frames.unfinished_head(), None);
        assert!(frames.at_boundary());

        // The rest of a DATA frame is a body; that of another frame is not.
        for (kind, head) in [(0, false), (1, true), (4, true)] {
            let bytes = frame(kind, END_HEADERS, b"abc");
            seen(&mut frames, &bytes[..10]);
            assert_eq!(frames.unfinished_head().is_some(), head, "{kind}");
            assert_ne!(frames.unfinished_head(), first);
            seen(&mut frames, &bytes[10..]);
        }
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_their_bytes_arrive(
            parts in prop::collection::vec((0_u8..12, any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..8),
            cuts in prop::collection::vec(1_usize..7, 1..60),
        ) {
            let bytes: Vec<u8> = parts.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
            let whole = seen(&mut Frames::new(Way::ToClient), &bytes);
            prop_assert_eq!(whole.len(), parts.len());
            let mut frames = Frames::new(Way::ToClient);
            let (mut rest, mut pieces) = (bytes.as_slice(), Vec::new());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                pieces.extend(seen(&mut frames, now));
                rest = later;
            }
            prop_assert_eq!(pieces, whole);
            prop_assert!(frames.at_boundary());
        }

        #[test]
        fn any_bytes_are_followed_without_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for way in [Way::FromClient, Way::ToClient] {
                seen(&mut Frames::new(way), &bytes);
            }
        }
    }
}
