//! Makes the calls of `grpcurl` commands, over the descriptors of the protos.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::uri::PathAndQuery;
use m4_user_details::proto::DESCRIPTORS;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor,
    prost::{Message, bytes::BufMut},
};
use serde_json::Value;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{AsciiMetadataKey, AsciiMetadataValue},
    transport::{Channel, Endpoint},
};

use crate::support::tls;

/// Answers the calls that appear in a folder. `home` is the folder of relative paths.
pub async fn answer(calls: PathBuf, home: PathBuf) {
    loop {
        for entry in fs::read_dir(&calls).into_iter().flatten() {
            let call = entry.unwrap().path();
            let Ok(arguments) = fs::read_to_string(call.join("arguments")) else { continue };
            if call.join("code").exists() {
                continue;
            }
            let arguments: Vec<_> = arguments.split_terminator('\0').collect();
            let (out, errors, code) = outcome(&arguments, &home).await;
            fs::write(call.join("out"), out).unwrap();
            fs::write(call.join("errors"), errors).unwrap();
            fs::write(call.join("part"), code.to_string()).unwrap();
            fs::rename(call.join("part"), call.join("code")).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The output, the errors and the exit code of a command.
async fn outcome(arguments: &[&str], home: &Path) -> (String, String, i32) {
    let call = Arguments::parse(arguments);
    let mut out = String::new();
    let Err(status) = call.run(home, &mut out).await else { return (out, String::new(), 0) };
    let code = status.code();
    let errors = format!("ERROR:\n  Code: {code:?}\n  Message: {}\n", status.message());
    // As grpcurl ends.
    (out, errors, 64 + code as i32)
}

#[derive(Default)]
struct Arguments<'a> {
    is_plaintext: bool,
    data: Option<&'a str>,
    headers: Vec<&'a str>,
    authorities: Option<&'a str>,
    max_seconds: Option<u64>,
    /// The address, a verb if there is one, and the symbol.
    words: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    fn parse(arguments: &[&'a str]) -> Self {
        let mut parsed = Self::default();
        let mut words = arguments.iter().copied();
        while let Some(word) = words.next() {
            let mut next = || words.next().expect(word);
            match word {
                "-plaintext" => parsed.is_plaintext = true,
                "-d" => parsed.data = Some(next()),
                "-H" => parsed.headers.push(next()),
                "-cacert" => parsed.authorities = Some(next()),
                "-max-time" => parsed.max_seconds = Some(next().parse().unwrap()),
                flag if flag.starts_with('-') => panic!("unknown flag {flag}"),
                word => parsed.words.push(word),
            }
        }
        parsed
    }

    async fn run(&self, home: &Path, out: &mut String) -> Result<(), Status> {
        let pool = pool();
        let method = match self.words[..] {
            [_, "list"] => {
                let names = pool.services().map(|service| format!("{}\n", service.full_name()));
                out.extend(names);
                return Ok(());
            }
            [_, "describe", symbol] => {
                assert!(pool.get_service_by_name(symbol).is_some(), "{symbol}");
                return Ok(());
            }
            [_, symbol] => find(&pool, symbol),
            _ => panic!("{:?}", self.words),
        };
        let json: Value = serde_json::from_str(self.data.unwrap_or("{}")).expect("JSON");
        let message = DynamicMessage::deserialize(method.input(), canonical(json));
        let mut request = Request::new(message.expect("a message of the method"));
        for header in &self.headers {
            let (name, value) = header.split_once(": ").expect(header);
            let name: AsciiMetadataKey = name.parse().unwrap();
            request.metadata_mut().insert(name, AsciiMetadataValue::try_from(value).unwrap());
        }
        if let Some(seconds) = self.max_seconds {
            request.set_timeout(Duration::from_secs(seconds));
        }
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path: PathAndQuery = path.parse().unwrap();
        let mut client = Grpc::new(self.channel(home));
        client.ready().await.unwrap();
        let codec = Dynamic(method.output());
        if !method.is_server_streaming() {
            print(client.unary(request, path, codec).await?.get_ref(), out);
            return Ok(());
        }
        let mut responses = client.server_streaming(request, path, codec).await?.into_inner();
        while let Some(response) = responses.message().await? {
            print(&response, out);
        }
        Ok(())
    }

    fn channel(&self, home: &Path) -> Channel {
        let address = self.words[0];
        if self.is_plaintext {
            return Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        }
        let file = home.join(self.authorities.expect("-plaintext or -cacert"));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(file).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls::channel(address.parse().unwrap(), config)
    }
}

fn pool() -> DescriptorPool {
    let mut pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
    pool
}

fn find(pool: &DescriptorPool, symbol: &str) -> MethodDescriptor {
    let (service, method) = symbol.split_once('/').expect(symbol);
    let service = pool.get_service_by_name(service).expect(symbol);
    service.methods().find(|own| own.name() == method).expect(symbol)
}

/// JSON with masks as text: grpcurl writes a mask as a message.
fn canonical(json: Value) -> Value {
    match json {
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        Value::Object(members) if members.len() == 1 && members.contains_key("paths") => {
            let paths = members["paths"].as_array().unwrap().iter();
            let paths: Vec<_> = paths.map(|path| camel_case(path.as_str().unwrap())).collect();
            paths.join(",").into()
        }
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, canonical(value))).collect()
        }
        other => other,
    }
}

fn camel_case(path: &str) -> String {
    let mut parts = path.split('_');
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        text.push_str(&part[..1].to_uppercase());
        text.push_str(&part[1..]);
    }
    text
}

fn print(message: &DynamicMessage, out: &mut String) {
    out.push_str(&serde_json::to_string_pretty(message).unwrap());
    out.push('\n');
}

/// Encodes and decodes messages by their descriptors.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(
        &mut self,
        message: DynamicMessage,
        buffer: &mut EncodeBuf<'_>,
    ) -> Result<(), Status> {
        buffer.put_slice(&message.encode_to_vec());
        Ok(())
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), buffer);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
