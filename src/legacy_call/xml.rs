//! The answers as XML: the declaration, two spaces of indentation, a newline at the end.

use quick_xml::{
    Writer,
    escape::partial_escape,
    events::{BytesDecl, BytesText, Event},
};

/// The content of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether `<page>` encloses `<status>`.
    pub page: bool,
    /// `error` or `success`.
    pub element: &'static str,
    /// The text of `element`.
    pub text: &'static str,
    /// The text of each `<message>`.
    pub messages: Vec<String>,
}

impl Answer {
    /// Serializes the answer.
    pub fn to_xml(&self) -> Vec<u8> {
        let mut writer = Writer::new_with_indent(Vec::with_capacity(256), b' ', 2);
        // Writing into memory does not fail.
        let _ = self.write(&mut writer);
        let mut document = writer.into_inner();
        document.push(b'\n');
        document
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        if self.page {
            writer
                .create_element("page")
                .write_inner_content(|writer| self.write_status(writer))?;
            return Ok(());
        }
        self.write_status(writer)
    }

    fn write_status(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        writer.create_element("status").write_inner_content(|writer| {
            writer.create_element(self.element).write_text_content(text(self.text))?;
            for message in &self.messages {
                writer.create_element("message").write_text_content(text(message))?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Escapes `<`, `>` and `&`, not quotes. Replaces characters that XML cannot represent.
fn text(text: &str) -> BytesText<'_> {
    // Fast path: most texts are ASCII.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || text.chars().all(is_xml) {
        return BytesText::from_escaped(partial_escape(text));
    }
    let replaced: String = text.chars().map(|c| if is_xml(c) { c } else { '\u{fffd}' }).collect();
    BytesText::from_escaped(partial_escape(replaced))
}

/// Whether XML allows a character: <https://www.w3.org/TR/xml/#charsets>.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}
