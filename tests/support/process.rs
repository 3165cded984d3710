//! A server as a child process: started, frozen, killed and started again.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::CONDITION_TIMEOUT;

/// A server that listens on a port; killed on drop.
pub struct ServerProcess {
    owner: Owner,
    program: PathBuf,
    pub arguments: Vec<OsString>,
    log: PathBuf,
    port: u16,
    child: Child,
}

impl ServerProcess {
    /// Starts a server, and waits until it listens.
    pub fn start(
        owner: Owner,
        program: PathBuf,
        arguments: Vec<OsString>,
        log: PathBuf,
        port: u16,
    ) -> Self {
        let child = spawn(&owner, &program, &arguments, &log);
        let mut process = Self { owner, program, arguments, log, port, child };
        process.wait_until_it_listens();
        process
    }

    /// Restarts the server after [`Self::kill`], and waits until it listens.
    pub fn restart(&mut self) {
        self.child = spawn(&self.owner, &self.program, &self.arguments, &self.log);
        self.wait_until_it_listens();
    }

    fn wait_until_it_listens(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < CONDITION_TIMEOUT, "{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops every process of the server (SIGSTOP). Its sockets stay open.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes a frozen server.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills every process of the server, as the loss of its machine does.
    pub fn kill(&mut self) {
        // A stopped parent starts no more children.
        let parent = Pid::from_child(&self.child);
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(parent, Signal::STOP);
            self.signal(Signal::KILL);
        }
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        let parent = self.child.id();
        for id in [parent].into_iter().chain(descendants(parent)) {
            let process = i32::try_from(id).ok().and_then(Pid::from_raw).unwrap();
            // A child may have ended meanwhile.
            let _ = kill_process(process, signal);
        }
    }

    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(owner: &Owner, program: &Path, arguments: &[OsString], log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let mut command = owner.command(program);
    command.args(arguments).stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
    command.spawn().unwrap()
}

/// All descendants of a process. PostgreSQL gives each child its own session.
fn descendants(parent: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let children = threads.flat_map(|thread| {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()
    });
    children.flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

/// The user that runs a server: database servers refuse to run as root.
pub struct Owner {
    name: Option<&'static str>,
    parent: PathBuf,
}

impl Owner {
    /// `user` if root starts the server, otherwise the current user.
    pub fn of(user: &'static str) -> Self {
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| {
            use std::os::unix::fs::MetadataExt;
            own.uid() == 0
        });
        Self { name: is_root.then_some(user), parent: env::temp_dir() }
    }

    /// The current user.
    pub fn current() -> Self {
        Self { name: None, parent: env::temp_dir() }
    }

    /// Creates its folders in `parent` instead of the temporary folder.
    pub fn within(self, parent: &Path) -> Self {
        Self { parent: parent.to_owned(), ..self }
    }

    /// A temporary folder, and a data folder in it that this user owns.
    pub fn folder(&self) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir_in(&self.parent).unwrap();
        if self.name.is_some() {
            fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        }
        let data = folder.path().join("data");
        self.create_folder(&data);
        (folder, data)
    }

    /// Creates a folder that this user owns.
    pub fn create_folder(&self, folder: &Path) {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, PermissionsExt::from_mode(0o700)).unwrap();
        let Some(name) = self.name else { return };
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let user = users.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
        let mut fields = user.split(':').skip(2).map(|id| id.parse().ok());
        chown(folder, fields.next().unwrap(), fields.next().unwrap()).unwrap();
    }

    /// A command that runs as this user.
    pub fn command(&self, program: &Path) -> Command {
        let Some(name) = self.name else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={name}")).arg(format!("--regid={name}"));
        command.args(["--init-groups", "--"]).arg(program);
        command
    }
}

/// Finds a program on the path or below one of the folders. Without it the test is skipped, or
/// fails if `TEST_REQUIRE_ALL=1` is set.
pub fn installed(program: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let below = folders.iter().flat_map(|folder| {
        let versions = fs::read_dir(folder).into_iter().flatten().flatten();
        versions.map(|version| version.path().join("bin")).chain([PathBuf::from(folder)])
    });
    let found = env::split_paths(&path).chain(below).map(|folder| folder.join(program));
    let found = found.filter(|file| file.is_file()).max();
    if found.is_none() {
        assert!(env::var_os("TEST_REQUIRE_ALL").is_none(), "{program} is not installed");
        // Write to the terminal: the test runner hides the output of tests that pass.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {program} is not installed");
    }
    found
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs a command to its end; it must succeed.
pub fn run(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
