//! Database servers for single tests, with settings found in production, and their proxies.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::process::{Owner, ServerProcess, free_port, installed, run};

/// Starts a new cluster instead of joining a cluster.
const NEW_CLUSTER: &str = "--wsrep-new-cluster";

/// A server on a free port of the loopback address; killed on drop.
pub struct Server {
    process: ServerProcess,
    folder: tempfile::TempDir,
    pub port: u16,
    /// The port of Galera's group communication.
    group: u16,
}

impl Server {
    /// A PostgreSQL server with further settings, such as `fsync=off`. `None` if the program is not
    /// installed: the test is skipped.
    pub fn postgres(settings: &[&str]) -> Option<Self> {
        Self::postgres_in(&env::temp_dir(), settings)
    }

    /// Like [`Self::postgres`], with its files in a folder.
    pub fn postgres_in(folder: &Path, settings: &[&str]) -> Option<Self> {
        let create = |owner: &Owner, programs: &Path, data: &Path| {
            let mut create = owner.command(&programs.join("initdb"));
            create.args(["--auth=trust", "--username=postgres", "--no-sync", "--pgdata"]).arg(data);
            run(create);
        };
        Self::postgres_with(Owner::of("postgres").within(folder), settings, create)
    }

    /// A standby of the PostgreSQL server on a port.
    pub fn standby(primary: u16) -> Option<Self> {
        Self::postgres_with(Owner::of("postgres"), &[], |owner, programs, data| {
            copy_primary(owner, programs, data, primary);
        })
    }

    fn postgres_with(
        owner: Owner,
        settings: &[&str],
        create: impl FnOnce(&Owner, &Path, &Path),
    ) -> Option<Self> {
        let programs = postgres_programs()?;
        let (folder, data) = owner.folder();
        create(&owner, &programs, &data);
        let port = free_port();
        let mut arguments: Vec<OsString> = vec!["-D".into(), data.into()];
        arguments.extend(["-p", &port.to_string()].map(OsString::from));
        let own = ["listen_addresses=127.0.0.1", "unix_socket_directories="];
        for setting in own.iter().chain(settings) {
            arguments.extend(["-c", setting].map(OsString::from));
        }
        Some(Self::start(owner, programs.join("postgres"), arguments, folder, port))
    }

    /// Restarts a killed PostgreSQL server, without its old data, as a standby of the server on a
    /// port.
    pub fn restart_as_standby(&mut self, primary: u16) {
        let programs = postgres_programs().unwrap();
        let (owner, data) = (self.process.owner(), self.folder.path().join("data"));
        fs::remove_dir_all(&data).unwrap();
        owner.create_folder(&data);
        copy_primary(owner, &programs, &data, primary);
        self.process.restart();
    }

    /// A MariaDB server with further options, such as `--autocommit=0`.
    pub fn mariadb(options: &[&str]) -> Option<Self> {
        Self::mariadb_in(&env::temp_dir(), options)
    }

    /// Like [`Self::mariadb`], with its files in a folder.
    pub fn mariadb_in(folder: &Path, options: &[&str]) -> Option<Self> {
        Self::mariadb_with(Owner::of("mysql").within(folder), "", options, 0)
    }

    /// The first node of a Galera cluster, or a node that joins it.
    pub fn galera(first: Option<&Self>) -> Option<Self> {
        let provider = galera_provider()?;
        let group = free_port();
        let cluster = first.map_or(String::new(), |first| format!("127.0.0.1:{}", first.group));
        let options = [
            "--binlog-format=ROW".to_owned(),
            "--innodb-autoinc-lock-mode=2".to_owned(),
            "--wsrep-on=ON".to_owned(),
            format!("--wsrep-provider={}", provider.display()),
            "--wsrep-cluster-name=m4".to_owned(),
            format!("--wsrep-cluster-address=gcomm://{cluster}"),
            "--wsrep-node-address=127.0.0.1".to_owned(),
            "--wsrep-sst-method=rsync".to_owned(),
            format!("--wsrep-sst-receive-address=127.0.0.1:{}", free_port()),
            format!("--wsrep-provider-options={}", provider_options(group)),
        ];
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        Self::mariadb_with(Owner::of("mysql"), "", &options, group)
    }

    /// A Galera node with a configuration file. The first node starts the cluster.
    pub fn galera_configured(configuration: &str, group: u16, is_first: bool) -> Option<Self> {
        let receive = format!("--wsrep-sst-receive-address=127.0.0.1:{}", free_port());
        let mut options = vec!["--wsrep-node-address=127.0.0.1", &receive];
        options.extend(is_first.then_some(NEW_CLUSTER));
        Self::mariadb_with(Owner::of("mysql"), configuration, &options, group)
    }

    fn mariadb_with(
        owner: Owner,
        configuration: &str,
        options: &[&str],
        group: u16,
    ) -> Option<Self> {
        let install = installed("mariadb-install-db", &["/usr/bin"])?;
        let serve = installed("mariadbd", &["/usr/sbin", "/usr/libexec"])?;
        let (folder, data) = owner.folder();
        let mut create = owner.command(&install);
        create.args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]);
        create.arg(format!("--datadir={}", data.display()));
        // Servers that start at once use the same names in a shared folder for temporary files.
        let temporary = folder.path().join("tmp");
        owner.create_folder(&temporary);
        create.env("TMPDIR", &temporary);
        run(create);
        let file = folder.path().join("server.cnf");
        fs::write(&file, configuration).unwrap();
        let port = free_port();
        let own = [
            format!("--defaults-file={}", file.display()),
            format!("--datadir={}", data.display()),
            format!("--tmpdir={}", temporary.display()),
            format!("--socket={}", data.join("socket").display()),
            format!("--pid-file={}", data.join("pid").display()),
            format!("--port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
        ];
        let arguments = own.iter().map(String::as_str).chain(options.iter().copied());
        let arguments = arguments.map(OsString::from).collect();
        let server = Self::start(owner, serve, arguments, folder, port);
        Some(Self { group, ..server })
    }

    /// A `PgBouncer` in front of a database; `pool_mode` is `session` or `transaction`.
    pub fn pgbouncer(url: &str, pool_mode: &str) -> Option<Self> {
        let program = installed("pgbouncer", &["/usr/sbin"])?;
        let owner = Owner::of("postgres");
        let (folder, data) = owner.folder();
        let url = url::Url::parse(url).unwrap();
        let (host, server) = (url.host_str().unwrap(), url.port().unwrap_or(5432));
        let (user, port) = (url.username(), free_port());
        let configuration = format!(
            "[databases]\n* = host={host} port={server} user={user}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {pool_mode}\nignore_startup_parameters = extra_float_digits\n"
        );
        let file = data.join("pgbouncer.ini");
        fs::write(&file, configuration).unwrap();
        Some(Self::start(owner, program, vec!["--quiet".into(), file.into()], folder, port))
    }

    /// HAProxy with a configuration that listens on `port`.
    pub fn haproxy(configuration: &str, port: u16) -> Option<Self> {
        let program = installed("haproxy", &["/usr/sbin"])?;
        let owner = Owner::current();
        let (folder, data) = owner.folder();
        let file = data.join("haproxy.cfg");
        fs::write(&file, configuration).unwrap();
        Some(Self::start(
            owner,
            program,
            vec!["-db".into(), "-f".into(), file.into()],
            folder,
            port,
        ))
    }

    /// nginx with a configuration of servers. `port` is a port of the first server.
    pub fn nginx(servers: &str, port: u16) -> Option<Self> {
        let program = installed("nginx", &["/usr/sbin"])?;
        let owner = Owner::current();
        let (folder, data) = owner.folder();
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let paths = paths.map(|name| format!("{name}_temp_path {};\n", data.join(name).display()));
        let configuration = format!(
            "daemon off;\nmaster_process off;\nerror_log stderr;\npid {};\nevents {{}}\n\
             http {{\naccess_log off;\n{}{servers}}}\n",
            data.join("pid").display(),
            paths.concat()
        );
        let file = data.join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let arguments = vec!["-e".into(), "stderr".into(), "-c".into(), file.into()];
        Some(Self::start(owner, program, arguments, folder, port))
    }

    /// The URL of a database on this server.
    pub fn url(&self, scheme_and_user: &str, database: &str) -> String {
        format!("{scheme_and_user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Stops all processes of the server. Its sockets stay open.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Resumes the server after [`Self::freeze`].
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Kills all processes of the server, as the loss of its machine does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Restarts the server after [`Self::kill`] with its port and data. A cluster node rejoins.
    pub fn restart(&mut self) {
        self.process.arguments.retain(|argument| argument != NEW_CLUSTER);
        self.process.restart();
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn start(
        owner: Owner,
        program: PathBuf,
        arguments: Vec<OsString>,
        folder: tempfile::TempDir,
        port: u16,
    ) -> Self {
        let log = folder.path().join("log");
        let process = ServerProcess::start(owner, program, arguments, log, port);
        Self { process, folder, port, group: 0 }
    }
}

fn postgres_programs() -> Option<PathBuf> {
    let initdb = installed("initdb", &["/usr/lib/postgresql", "/usr/local/pgsql"])?;
    // `initdb` may be a link in a folder without the other programs.
    fs::canonicalize(initdb).unwrap().parent().map(PathBuf::from)
}

/// Fills an empty folder with a standby's copy of the server on a port.
fn copy_primary(owner: &Owner, programs: &Path, data: &Path, primary: u16) {
    let mut copy = owner.command(&programs.join("pg_basebackup"));
    let port = primary.to_string();
    copy.args(["--host=127.0.0.1", "--port", &port, "--username=postgres"]);
    copy.args(["--checkpoint=fast", "--write-recovery-conf", "--no-sync", "--pgdata"]).arg(data);
    run(copy);
}

/// The Galera library. Also requires rsync, which copies nodes.
pub fn galera_provider() -> Option<PathBuf> {
    let provider = installed("libgalera_smm.so", &["/usr/lib/galera", "/usr/lib64/galera-4"])?;
    installed("rsync", &["/usr/bin"])?;
    Some(provider)
}

/// The provider options with the addresses of a Galera node.
pub fn provider_options(group: u16) -> String {
    let receive = free_port();
    format!("gmcast.listen_addr=tcp://127.0.0.1:{group};ist.recv_addr=127.0.0.1:{receive}")
}
