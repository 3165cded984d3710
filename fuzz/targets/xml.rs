//! The XML writer: every answer is well-formed and keeps its messages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use m4_user_details::measured::Answer;

fuzz_target!(|data: (bool, Vec<String>)| {
    let (page, messages) = data;
    let answer = Answer { page, element: "error", text: "User was not updated", messages };
    let document = String::from_utf8(answer.to_xml()).expect("it is UTF-8");
    let parsed = roxmltree::Document::parse(&document);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}: {document:?}"));
    assert_eq!(parsed.root_element().has_tag_name("page"), page);
    let written = parsed.descendants().filter(|node| node.has_tag_name("message"));
    assert_eq!(written.count(), answer.messages.len());
});
