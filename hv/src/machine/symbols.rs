//! Names for addresses of the monitor, from a table that the build puts into the image.
//!
//! The table: "AUSY", the number of symbols, then for each, ordered by address, its offset from
//! the image's start and the offset of its name from the table's start; then the names, each
//! ended by a zero. Numbers are 32 bits, little-endian. A table that is absent or damaged names
//! nothing.

const MAGIC: [u8; 4] = *b"AUSY";
const HEADER_SIZE: usize = 8;
const ENTRY_SIZE: usize = 8;

/// A table of symbols.
#[derive(Debug, Clone, Copy)]
pub struct Symbols<'a> {
    table: &'a [u8],
    count: usize,
}

impl<'a> Symbols<'a> {
    /// Looks at a table; none if it is not one.
    pub fn parse(table: &'a [u8]) -> Option<Symbols<'a>> {
        if table.get(..4)? != MAGIC {
            return None;
        }
        let count = usize::try_from(word(table, 4)?).ok()?;
        let end = count.checked_mul(ENTRY_SIZE)?.checked_add(HEADER_SIZE)?;
        (end <= table.len()).then_some(Symbols { table, count })
    }

    /// The symbol that an offset from the image's start belongs to, and how far into it.
    pub fn lookup(&self, offset: u32) -> Option<(&'a str, u32)> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)?.0 <= offset {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let (start, name) = self.entry(low.checked_sub(1)?)?;
        Some((self.name(name)?, offset - start))
    }

    fn entry(&self, index: usize) -> Option<(u32, u32)> {
        let at = HEADER_SIZE + index * ENTRY_SIZE;
        Some((word(self.table, at)?, word(self.table, at + 4)?))
    }

    fn name(&self, at: u32) -> Option<&'a str> {
        let rest = self.table.get(usize::try_from(at).ok()?..)?;
        core::ffi::CStr::from_bytes_until_nul(rest).ok()?.to_str().ok()
    }
}

fn word(table: &[u8], at: usize) -> Option<u32> {
    let bytes = table.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(symbols: &[(u32, &str)]) -> Vec<u8> {
        let mut table = MAGIC.to_vec();
        table.extend((symbols.len() as u32).to_le_bytes());
        let mut name = HEADER_SIZE + symbols.len() * ENTRY_SIZE;
        for (offset, text) in symbols {
            table.extend(offset.to_le_bytes());
            table.extend((name as u32).to_le_bytes());
            name += text.len() + 1;
        }
        for (_, text) in symbols {
            table.extend(text.bytes().chain([0]));
        }
        table
    }

    #[test]
    fn the_symbol_at_or_before_an_offset_is_found() {
        let table = table(&[(0x40, "_start"), (0x100, "hv::main"), (0x900, "hv::panic")]);
        let symbols = Symbols::parse(&table).expect("a table");
        assert_eq!(symbols.lookup(0x3F), None);
        assert_eq!(symbols.lookup(0x40), Some(("_start", 0)));
        assert_eq!(symbols.lookup(0x8FF), Some(("hv::main", 0x7FF)));
        assert_eq!(symbols.lookup(u32::MAX), Some(("hv::panic", u32::MAX - 0x900)));
    }

    #[test]
    fn an_empty_section_is_no_table() {
        assert!(Symbols::parse(&[0; 4096]).is_none());
        assert!(Symbols::parse(b"AUSY\xFF\xFF\xFF\xFF").is_none());
        assert_eq!(Symbols::parse(&table(&[])).and_then(|symbols| symbols.lookup(5)), None);
    }

    proptest! {
        #[test]
        fn damage_names_nothing_and_never_panics(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            offset: u32,
            magic: bool,
        ) {
            if magic {
                bytes.splice(..0, *b"AUSY\x03\0\0\0");
            }
            if let Some(symbols) = Symbols::parse(&bytes) {
                symbols.lookup(offset);
            }
        }
    }
}
