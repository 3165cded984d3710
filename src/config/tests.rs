use std::{collections::BTreeSet, ffi::OsString, fs, os::unix::ffi::OsStringExt, path::Path};

use super::*;

/// The errors of a file, of variables and of flags.
fn errors(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Vec<String> {
    match read(file, variables, flags) {
        Ok(_) => Vec::new(),
        Err(ConfigErrors(errors)) => errors,
    }
}

fn read(
    file: &str,
    variables: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m4.toml");
    fs::write(&path, file).unwrap();
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned()));
    Config::read(&Layers::new(Some(&path), variables, flags.collect()))
}

/// One error of each line contains the words of that line.
fn assert_each(errors: &[String], expected: &[&[&str]]) {
    for words in expected {
        let has_words = |error: &&String| words.iter().all(|word| error.contains(word));
        assert_eq!(errors.iter().filter(has_words).count(), 1, "{words:?}: {errors:#?}");
    }
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
}

#[test]
fn the_defaults_are_valid() {
    let config = read("", &[], &[]).unwrap();
    assert_eq!(config.grpc_listen.port(), 50051);
    assert_eq!(config.limits.deadline, Duration::from_secs(10));
    assert!(config.keep_log.is_none() && config.keys.is_empty() && config.jwt.is_none());
}

#[test]
fn every_error_is_reported_at_once_with_its_layer() {
    let file = "drain_seconds = 0\nmax_in_flight = 1.5\njwt = \"x\"\nlgo = 1\n\
                [http]\nlisten = \"nonsense\"\nanswers = \"json\"\nbody_limit = [1]\n\
                [grpc]\ntls_client_certificate = \"perhaps\"\ntls_key = \"key.pem\"\n\
                [door]\ntoken = \"a\"\ntoken_file = \"b\"\n";
    let variables = [
        ("M4_DATABASE_URL", "oracle://x"),
        ("M4_INSECURE", "perhaps"),
        ("M4_LOG", "m4_user_details=loud"),
        ("M4_API_SECRET_KEY_FILE", "/no/such/file"),
        ("M4_GRPC_TOKN", "x"),
    ];
    let flags = [("door.upstream", "ftp://x"), ("admin.listen", "nowhere"), ("admin.port", "1")];
    let file_layer = "m4.toml)";
    assert_each(
        &errors(file, &variables, &flags),
        &[
            &["drain_seconds (", file_layer, "must be a number from 1 to 3600"],
            &["max_in_flight (", file_layer, "must be text, a whole number"],
            &["jwt (", file_layer, "must be a table"],
            &["lgo (", file_layer, "is unknown; did you mean `log`?"],
            &["http.listen (", file_layer, "must be an address and a port"],
            &["http.answers (", file_layer, "must be xml or html"],
            &["http.body_limit (", file_layer, "must be text, a whole number"],
            &["grpc.tls_client_certificate (", file_layer, "must be required or optional"],
            &["grpc.tls_key (", file_layer, "needs grpc.tls_certificate"],
            &["door.token_file (", file_layer, "cannot be set together with door.token"],
            &["door.token_file (", file_layer, "cannot be read"],
            &["database.url (environment) must be sqlite://FILE"],
            &["insecure (environment) must be true or false"],
            &["log (environment) must be a filter"],
            &["api.secret_key_file (environment) cannot be read"],
            &["M4_GRPC_TOKN (environment) is unknown; did you mean `M4_GRPC_TOKEN`?"],
            &["door.upstream (flag) must be http://HOST:PORT"],
            &["admin.port (flag) is unknown"],
            &["admin.listen (flag) must be an address and a port"],
        ],
    );
}

#[test]
fn checks_of_several_keys_name_a_key_and_its_layer() {
    let file = "[jwt]\nissuer = \"x\"\n[door]\nupstream = \"https://x\"\ntls_certificate = \"c\"\n\
                [http]\ntls_client_ca = \"a\"\n\
                [grpc]\ncertificates_file = \"/no/such/file\"\ntoken_file = \"/no/such/file\"\n\
                [api]\nsecret_key = \"k\"\nsecret_key_file = \"/no/such/file\"\n";
    let errors = errors(file, &[], &[]);
    assert_each(
        &errors,
        &[
            &["jwt.jwks (default) must be set"],
            &["jwt.audience (default) must be set"],
            &["door.tls_ca (default) must name the authorities"],
            &["door.tls_certificate (", "needs door.tls_key"],
            &["http.tls_client_ca (", "needs http.tls_certificate"],
            &["grpc.certificates_file (", "cannot be read"],
            &["grpc.certificates_file (", "needs grpc.tls_client_ca"],
            &["grpc.token_file (", "cannot be read"],
            &["api.secret_key_file (", "cannot be set together"],
            &["api.secret_key_file (", "cannot be read"],
        ],
    );
    for error in errors {
        let path = error.split(' ').next().unwrap();
        assert!(keys().any(|key| key.path == path), "{error}");
    }
}

#[test]
fn unknown_keys_of_a_file_are_refused_with_a_suggestion() {
    for (file, start, end) in [
        ("[grpc]\ntokn = 1", "grpc.tokn (", "; did you mean `grpc.token`?"),
        ("[gprc]\nlisten = 1", "gprc.listen (", "; did you mean `grpc.listen`?"),
        ("LOG = 1", "a name that is not shown (", "; did you mean `log`?"),
        ("[log]\nlevel = 1", "log.level (", "is unknown"),
        ("[surprise]", "surprise (", "is unknown"),
        ("[api]\n\"hush-key\" = 1", "a name that is not shown (", "is unknown"),
    ] {
        let errors = errors(file, &[], &[]);
        let is_expected = |error: &String| error.starts_with(start) && error.ends_with(end);
        assert!(errors.iter().any(is_expected), "{file}: {errors:?}");
        assert!(!errors.concat().contains("hush"), "{errors:?}");
    }
}

#[test]
fn unknown_variables_are_refused_with_a_suggestion() {
    for (name, expected) in [
        (
            "M4_DATABSE_URL",
            "M4_DATABSE_URL (environment) is unknown; did you mean `M4_DATABASE_URL`?",
        ),
        ("M4_CONFG", "M4_CONFG (environment) is unknown; did you mean `M4_CONFIG`?"),
        ("M4_log", "M4_log (environment) is unknown; did you mean `M4_LOG`?"),
        ("M4_SURPRISE", "M4_SURPRISE (environment) is unknown"),
        ("M4_hush=1", "a name that is not shown (environment) is unknown"),
    ] {
        assert_eq!(errors("", &[(name, "hush")], &[]), [expected]);
        assert!(read("", &[(name, "")], &[]).is_ok(), "an empty variable counts as not set");
    }
    let others =
        [("M4_CONFIG", "m4.toml"), ("OTEL_SERVICE_NAME", "m4"), ("M4", "x"), ("m4_x", "x")];
    assert_eq!(errors("", &others, &[]), [""; 0]);
}

#[test]
fn variables_of_kubernetes_services_are_ignored() {
    let host = ("M4_USER_DETAILS_SERVICE_HOST", "10.0.0.1");
    let ports = [
        ("M4_USER_DETAILS_SERVICE_PORT", "50051"),
        ("M4_USER_DETAILS_SERVICE_PORT_GRPC", "50051"),
        ("M4_USER_DETAILS_PORT", "tcp://10.0.0.1:50051"),
        ("M4_USER_DETAILS_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("M4_USER_DETAILS_PORT_50051_TCP_ADDR", "10.0.0.1"),
    ];
    assert_eq!(errors("", &[&[host][..], &ports].concat(), &[]), [""; 0]);
    assert_eq!(errors("", &ports, &[]).len(), ports.len());
    assert_eq!(errors("", &[host, ("M4_USER_DETAILS_PROT", "x")], &[]).len(), 1);
}

#[test]
fn a_variable_that_is_not_utf_8_is_refused() {
    let value = OsString::from_vec(b"hush\xff".to_vec());
    let layers = Layers::new(None, [("M4_API_SECRET_KEY".into(), value)], Vec::new());
    let ConfigErrors(errors) = Config::read(&layers).unwrap_err();
    assert_eq!(errors, ["api.secret_key (M4_API_SECRET_KEY) must be UTF-8"]);
}

#[test]
fn flags_override_variables_override_the_file_overrides_defaults() {
    let file = "drain_seconds = 7\nmax_in_flight = 8\nlog = \"warn\"\n[grpc]\ntoken_name = \"a\"\n";
    let variables = [("M4_LOG", "error"), ("M4_MAX_IN_FLIGHT", "9"), ("M4_GRPC_TOKEN", "t")];
    let config = read(file, &variables, &[("log", "debug")]).unwrap();
    assert_eq!(config.limits.deadline, Duration::from_secs(10));
    assert_eq!(config.drain, Duration::from_secs(7));
    assert_eq!(config.database.max_in_flight, 9);
    assert_eq!(config.log, "debug");
    assert_eq!(config.internal.unwrap().identity.name(), "a");
}

#[test]
fn numbers_and_flags_may_be_text_and_text_may_look_like_a_number() {
    let file = "drain_seconds = \"7\"\ninsecure = \"true\"\n[door]\ntoken = 123\n";
    let config = read(file, &[("M4_API_SECRET_KEY", "0123")], &[]).unwrap();
    assert_eq!(config.drain, Duration::from_secs(7));
    assert!(config.insecure);
    assert!(config.door_tokens.unwrap().contain("123"));
    assert!(!config.keys.have_shorter_than(4));
}

#[test]
fn errors_and_the_effective_values_show_no_secret() {
    for key in keys().filter(|key| key.secret || key.path.ends_with("url")) {
        let variable = key.variable();
        let value = "postgres://m4:hush@db/m4";
        let layers = Layers::new(None, [(variable.into(), value.into())], Vec::new());
        assert!(!layers.show().contains("hush"), "{}", layers.show());
    }
    let secrets: Vec<_> = keys().filter(|key| key.secret).map(|key| key.path).collect();
    let expected = ["door.token", "api.secret_key", "api.secret_key_previous"];
    assert_eq!(secrets, [&["grpc.token"][..], &expected].concat());
    for key in keys() {
        let variables = [(&*key.variable(), "hush:hush@hush")];
        assert!(!errors("", &variables, &[]).concat().contains("hush"), "{}", key.path);
    }
}

#[test]
fn the_sample_without_comment_signs_has_the_defaults_of_all_keys() {
    let sample = reference::sample();
    let lines = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        _ => line,
    });
    let uncommented = lines.collect::<Vec<_>>().join("\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m4.toml");
    fs::write(&path, &uncommented).unwrap();
    let values = |file: Option<&Path>| {
        let shown = Layers::new(file, [], Vec::new()).show();
        let value = |line: &str| line.split_once("  # ").unwrap().0.to_owned();
        shown.lines().map(value).collect::<BTreeSet<_>>()
    };
    let shown = Layers::new(Some(&path), [], Vec::new()).show();
    assert!(!shown.contains("# default;"), "{shown}");
    assert_eq!(values(Some(&path)), values(None));
    assert_eq!(errors(&uncommented, &[], &[]), [""; 0]);
}

#[test]
fn every_key_has_a_help_text_and_a_variable_of_its_own() {
    let variables: BTreeSet<_> = keys().map(Key::variable).collect();
    assert_eq!(variables.len(), 54);
    assert_eq!(keys().count(), 54);
    for key in keys() {
        assert!(key.help.ends_with('.') && !key.help.contains("  "), "{}: {}", key.path, key.help);
    }
}
