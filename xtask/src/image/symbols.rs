//! Function names of an image: for its own backtraces, and for ours when it hangs.
//!
//! The blob that goes into an image: the magic "AUSY", a u32 count, as many pairs of u32 (offset
//! of a function from the image's start, offset of its name from the blob's start), by rising
//! offset, then the names, each ending with a NUL. All little-endian.

use object::read::elf::ElfFile64;
use object::{Object, ObjectSymbol, SymbolKind};

const MAGIC: &[u8; 4] = b"AUSY";

/// Functions of an image by rising address.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    functions: Vec<Function>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Function {
    offset: u32,
    size: u32,
    name: String,
}

impl Symbols {
    /// The functions of an ELF file that is linked at address 0.
    pub fn from_elf(file: &ElfFile64<'_>) -> Symbols {
        let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
        Symbols::new(functions.filter_map(|symbol| {
            let name = symbol.name().ok().filter(|name| !name.starts_with('$'))?;
            Some(Function {
                offset: u32::try_from(symbol.address()).ok()?,
                size: u32::try_from(symbol.size()).ok()?,
                // Without the hash that tells two builds' functions apart.
                name: format!("{:#}", rustc_demangle::demangle(name)),
            })
        }))
    }

    fn new(functions: impl Iterator<Item = Function>) -> Symbols {
        let mut functions: Vec<Function> = functions.collect();
        functions.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
        functions.dedup_by_key(|function| function.offset);
        Symbols { functions }
    }

    /// The function at `offset` from the image's start, as "name+0x10".
    pub fn describe(&self, offset: u64) -> Option<String> {
        let offset = u32::try_from(offset).ok()?;
        let after = self.functions.partition_point(|function| function.offset <= offset);
        let function = self.functions.get(after.checked_sub(1)?)?;
        let within = offset - function.offset;
        // Functions of assembly may have no size.
        let inside = within < function.size || function.size == 0;
        inside.then(|| format!("{}+{within:#x}", function.name))
    }

    /// What goes into the image.
    pub fn to_blob(&self) -> Vec<u8> {
        let count = self.functions.len() as u32;
        let mut blob = [MAGIC.as_slice(), &count.to_le_bytes()].concat();
        let mut names = Vec::new();
        let names_start = blob.len() + self.functions.len() * 8;
        for function in &self.functions {
            let name_offset = (names_start + names.len()) as u32;
            blob.extend_from_slice(&function.offset.to_le_bytes());
            blob.extend_from_slice(&name_offset.to_le_bytes());
            names.extend_from_slice(function.name.as_bytes());
            names.push(0);
        }
        blob.extend_from_slice(&names);
        blob
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(list: &[(u32, u32, &str)]) -> Symbols {
        Symbols::new(list.iter().map(|&(offset, size, name)| Function {
            offset,
            size,
            name: name.to_string(),
        }))
    }

    #[test]
    fn addresses_are_described() {
        let symbols = symbols(&[(0x40, 0x10, "b"), (0, 0x20, "a"), (0x80, 0, "asm")]);
        assert_eq!(symbols.describe(0x1f).as_deref(), Some("a+0x1f"));
        assert_eq!(symbols.describe(0x40).as_deref(), Some("b+0x0"));
        assert_eq!(symbols.describe(0x30), None);
        assert_eq!(symbols.describe(0x90).as_deref(), Some("asm+0x10"));
        assert_eq!(symbols.describe(u64::MAX), None);
    }

    #[test]
    fn blob_can_be_read_back() {
        let blob = symbols(&[(0x40, 4, "second"), (8, 4, "first"), (8, 4, "same place")]).to_blob();
        let word = |at: usize| u32::from_le_bytes(blob[at..at + 4].try_into().unwrap());
        let name = |at: u32| {
            let bytes = &blob[at as usize..];
            std::str::from_utf8(&bytes[..bytes.iter().position(|b| *b == 0).unwrap()]).unwrap()
        };
        assert_eq!(&blob[..4], MAGIC);
        assert_eq!(word(4), 2);
        assert_eq!((word(8), name(word(12))), (8, "first"));
        assert_eq!((word(16), name(word(20))), (0x40, "second"));
        assert_eq!(blob.last(), Some(&0));
    }
}
