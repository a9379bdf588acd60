//! One configuration file to properties, in the order they stand there, included files in their place.
//!
//! Both forms of a property are read, elements and attributes. As in Hadoop, an empty value is no value, names
//! are trimmed, and `final` counts only when it is exactly `true`. XInclude: `href` of a file, with fallback;
//! `http` and XPointer are refused.

use super::ConfError;
use roxmltree::{Document, Node, ParsingOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Largest configuration file; big clusters have some hundred KiB.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Most XML nodes of one file: ten for each of 100,000 properties.
const MAX_NODES: u32 = 1_000_000;
/// Deepest nesting of elements; a configuration has four levels. The parser calls itself for every level.
const MAX_ELEMENT_DEPTH: usize = 256;
/// Deepest chain of includes; a file that includes itself ends here.
const MAX_INCLUDE_DEPTH: usize = 10;

/// A property as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) value: Option<String>,
    pub(super) is_final: bool,
    pub(super) path: PathBuf,
    pub(super) line: usize,
}

/// Reads `path` and what it includes.
pub(super) fn read(path: &Path, directories: &[PathBuf]) -> Result<Vec<Item>, ConfError> {
    let mut items = Vec::new();
    let root = path.parent().unwrap_or(Path::new("")).to_owned();
    Reader { directories, root, items: &mut items }.file(path, 0)?;
    Ok(items)
}

struct Reader<'a> {
    /// Where included files are looked for besides the folder of the file that includes them: Hadoop asks the
    /// class path first.
    directories: &'a [PathBuf],
    /// Folder of the outermost file, from which Hadoop counts relative names even in included files.
    root: PathBuf,
    items: &'a mut Vec<Item>,
}

/// One file while it is read.
struct File<'a> {
    path: &'a Path,
    /// Offset of every line's first byte.
    lines: Vec<usize>,
    depth: usize,
}

impl File<'_> {
    fn line(&self, node: Node<'_, '_>) -> usize {
        self.lines.partition_point(|start| *start <= node.range().start)
    }

    fn error(&self, node: Node<'_, '_>, message: impl Into<String>) -> ConfError {
        ConfError::File { path: self.path.to_owned(), line: self.line(node), message: message.into() }
    }
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, depth: usize) -> Result<(), ConfError> {
        let text = read_limited(path)?;
        if let Some(line) = too_deep(&text) {
            let message = format!("elements are nested more than {MAX_ELEMENT_DEPTH} deep");
            return Err(ConfError::File { path: path.to_owned(), line, message });
        }
        let options = ParsingOptions { allow_dtd: true, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(&text, options).map_err(|error| ConfError::File {
            path: path.to_owned(),
            line: error.pos().row as usize,
            message: error.to_string(),
        })?;
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let file = File { path, lines: std::iter::once(0).chain(starts).collect(), depth };
        let root = document.root_element();
        if root.tag_name().name() != "configuration" {
            let name = root.tag_name().name();
            return Err(file.error(root, format!("the root is <{name}> where <configuration> is needed")));
        }
        self.children(root, &file)
    }

    /// Reads the children of an element; unknown elements are looked into, as Hadoop does.
    fn children(&mut self, parent: Node<'_, '_>, file: &File<'_>) -> Result<(), ConfError> {
        for node in parent.children().filter(Node::is_element) {
            match node.tag_name().name() {
                "property" => self.property(node, file)?,
                "include" => self.include(node, file)?,
                _ => self.children(node, file)?,
            }
        }
        Ok(())
    }

    fn property(&mut self, node: Node<'_, '_>, file: &File<'_>) -> Result<(), ConfError> {
        let attribute = |name| node.attribute(name).map(str::to_owned);
        let (mut name, mut value) = (attribute("name"), attribute("value"));
        let mut is_final = node.attribute("final") == Some("true");
        for child in node.children().filter(Node::is_element) {
            let text = text_of(child);
            match child.tag_name().name() {
                "name" if !text.is_empty() => name = Some(text.trim().to_owned()),
                "value" if !text.is_empty() => value = Some(text),
                "final" => is_final = text == "true",
                "include" => return Err(file.error(child, "an include inside a property")),
                _ => {}
            }
        }
        let name = name.filter(|name| !name.is_empty());
        let Some(name) = name else {
            // Hadoop passes over it in silence, and its value is lost.
            return Err(file.error(node, "a property without a name"));
        };
        let (path, line) = (file.path.to_owned(), file.line(node));
        self.items.push(Item { name, value, is_final, path, line });
        Ok(())
    }

    fn include(&mut self, node: Node<'_, '_>, file: &File<'_>) -> Result<(), ConfError> {
        if file.depth >= MAX_INCLUDE_DEPTH {
            let message = format!("files include each other more than {MAX_INCLUDE_DEPTH} deep");
            return Err(file.error(node, message));
        }
        let Some(href) = node.attribute("href") else {
            return Err(file.error(node, "an include without href"));
        };
        if node.attribute("parse").is_some_and(|parse| parse != "xml") || node.has_attribute("xpointer") {
            return Err(file.error(node, "only whole files are included, as XML"));
        }
        if let Some(path) = self.find(href, file.path) {
            return self.file(&path, file.depth + 1);
        }
        match node.children().find(|child| child.tag_name().name() == "fallback") {
            Some(fallback) => self.children(fallback, file),
            None => {
                let message = format!("the included file \"{href}\" is not there, and there is no fallback");
                Err(file.error(node, message))
            }
        }
    }

    /// The file that an include names, if it exists.
    fn find(&self, href: &str, from: &Path) -> Option<PathBuf> {
        let path = match href.strip_prefix("file:") {
            Some(rest) => Path::new(rest.strip_prefix("//").unwrap_or(rest)),
            None => Path::new(href),
        };
        let beside = from.parent().unwrap_or(Path::new(""));
        // An absolute path replaces the folder that it is joined to.
        let folders = std::iter::once(beside)
            .chain(self.directories.iter().map(PathBuf::as_path))
            .chain(std::iter::once(self.root.as_path()));
        folders.map(|folder| folder.join(path)).find(|path| path.is_file())
    }
}

fn read_limited(path: &Path) -> Result<String, ConfError> {
    let io_error = |source| ConfError::Io { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(io_error)?.len();
    if bytes > MAX_FILE_BYTES {
        let text = format!("{bytes} bytes; the limit for a configuration file is {MAX_FILE_BYTES}");
        return Err(io_error(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    std::fs::read_to_string(path).map_err(io_error)
}

/// The line where elements are nested too deeply for the parser, counted generously: every `<` that is followed
/// by a letter opens, every `</` and `/>` closes.
fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut line) = (0usize, 1);
    for pair in bytes.windows(2) {
        match pair {
            [b'\n', _] => line += 1,
            [b'<', b'/'] | [b'/', b'>'] => depth = depth.saturating_sub(1),
            [b'<', next] if next.is_ascii_alphabetic() || *next == b'_' || !next.is_ascii() => depth += 1,
            _ => {}
        }
        if depth > MAX_ELEMENT_DEPTH {
            return Some(line);
        }
    }
    None
}

/// All text inside an element, comments left out.
fn text_of(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|text| text.text()).collect()
}
