//! A Linux kernel whose GPIO chips are driven from the test (`gpio-sim`): the one that runs here, where it
//! has that and we may, or one in an emulated machine that `FOREBAY_LONG=1 tests/run` fetches.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{command, kill, lines::Lines, now, pause, spawn, test_tools};

/// Where the kernel shows the chips that it is to make up.
const CHIPS: &str = "/sys/kernel/config/gpio-sim";
/// An emulated machine is slow.
const LONGEST: Duration = Duration::from_secs(120);
/// What the emulated machine begins with.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod $module; done
mount -t configfs config /sys/kernel/config
ip link set lo up
stty -echo
export PS1=
echo begins
exec sh
";

/// A shell on a machine with such a kernel.
pub struct Machine {
    process: Child,
    input: ChildStdin,
    output: Lines,
    /// How many lines of it were looked at.
    seen: usize,
    commands: usize,
    /// Where the program is, in the shell's words.
    pub program: String,
    /// Where the folder of pipelines is.
    pub folder: String,
    /// What the emulated machine begins with.
    _disk: Option<TempDir>,
}

impl Machine {
    /// Starts a shell beside the program and a folder of pipelines. None, with a line that says so, where
    /// there is no such kernel.
    #[track_caller]
    pub fn with(folder: &Path) -> Option<Machine> {
        let (program, place) = (env!("CARGO_BIN_EXE_forebay"), folder.to_string_lossy());
        if Path::new(CHIPS).is_dir() && rustix::process::getuid().is_root() {
            return Some(Machine::of(command("sh"), program, &place));
        }
        let parts = test_tools().join("machine");
        if !parts.join("vmlinuz").exists() {
            eprintln!(
                "skipped: the kernel here has no gpio-sim, and the emulated machine is fetched by `FOREBAY_LONG=1 tests/run`"
            );
            return None;
        }
        let disk = first_disk(&parts, Path::new(program), folder);
        let disk = disk.expect("there is room for a disk");
        let mut emulator = command("qemu-system-x86_64");
        emulator.args(["-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-no-reboot"]);
        emulator.args(["-display", "none", "-serial", "stdio", "-kernel"]);
        emulator.arg(parts.join("vmlinuz")).arg("-initrd").arg(disk.path().join("disk"));
        emulator.args(["-append", "console=ttyS0 loglevel=1 panic=-1"]);
        let mut machine = Machine::of(emulator, "/forebay", "/folder");
        // What comes before there is a shell is lost.
        (machine.seen, _) =
            machine.output.wait_for("the machine begins", 0, |line| line == "begins");
        machine._disk = Some(disk);
        Some(machine)
    }

    fn of(mut shell: Command, program: &str, folder: &str) -> Machine {
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = spawn(&mut shell);
        let output = Lines::default();
        output.collect(process.stdout.take().expect("it is piped"));
        let input = process.stdin.take().expect("it is piped");
        let (program, folder) = (program.to_owned(), folder.to_owned());
        Machine { process, input, output, seen: 0, commands: 0, program, folder, _disk: None }
    }

    /// Runs a script, and gives what it printed.
    #[track_caller]
    pub fn shell(&mut self, script: &str) -> String {
        self.commands += 1;
        let mark = format!("done-{}-", self.commands);
        // The mark is written in two parts, for a console that shows what is typed.
        let text = format!("{script}\necho done-{}\"-$?\"\n", self.commands);
        self.input.write_all(text.as_bytes()).expect("the shell reads");
        let (at, line) = self.output.wait_for(script, self.seen, |line| line.contains(&mark));
        let lines = &self.output.all()[self.seen..at];
        self.seen = at + 1;
        let printed = lines.join("\n");
        assert!(line.ends_with(&format!("{mark}0")), "{script}\n{printed}\n{line}");
        printed
    }

    /// Runs a script until it prints this, and gives what it printed then.
    #[track_caller]
    pub fn until(&mut self, wanted: &str, script: &str) -> String {
        let deadline = now() + LONGEST;
        loop {
            let printed = self.shell(script);
            if printed.contains(wanted) {
                return printed;
            }
            assert!(now() < deadline, "`{script}` does not print `{wanted}`:\n{printed}");
            pause(Duration::from_millis(100));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // On this machine, what the shell has started would stay; who starts something keeps its id in `pid`.
        let _ = self.input.write_all(b"kill -9 $pid\nexit\n");
        kill(&mut self.process);
    }
}

/// The first file system of the emulated machine: a shell, the program with its libraries, its pipelines.
fn first_disk(parts: &Path, program: &Path, folder: &Path) -> io::Result<TempDir> {
    let disk = tempfile::tempdir()?;
    let stripped = disk.path().join("forebay");
    let status = command("strip").arg("-o").arg(&stripped).arg(program).status()?;
    assert!(status.success(), "a program without what a debugger needs");
    let mut archive = Archive::default();
    archive.add("init", INIT.as_bytes());
    archive.add("bin/busybox", &fs::read(parts.join("busybox"))?);
    archive.add("forebay", &fs::read(&stripped)?);
    for name in ["dev", "proc", "sys", "tmp", "etc"] {
        archive.add_folders_of(&format!("{name}/x"));
    }
    archive.add_files("modules", &parts.join("modules"))?;
    archive.add_files("folder", folder)?;
    let libraries = command("ldd").arg(program).output()?.stdout;
    let libraries = String::from_utf8_lossy(&libraries);
    for path in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        archive.add(path.trim_start_matches('/'), &fs::read(path)?);
    }
    fs::write(disk.path().join("disk"), archive.finish())?;
    Ok(disk)
}

/// An archive in the form of `cpio` that the kernel unpacks (`newc`).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    folders: Vec<String>,
    count: usize,
}

impl Archive {
    fn add(&mut self, path: &str, content: &[u8]) {
        self.add_folders_of(path);
        self.entry(path, 0o100_755, content);
    }

    fn add_files(&mut self, name: &str, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = format!("{name}/{}", entry.file_name().to_string_lossy());
            self.add(&path, &fs::read(entry.path())?);
        }
        Ok(())
    }

    fn add_folders_of(&mut self, path: &str) {
        let ends = path.match_indices('/').map(|(at, _)| at);
        for folder in ends.map(|end| path[..end].to_owned()) {
            if !self.folders.contains(&folder) {
                self.entry(&folder, 0o40_755, &[]);
                self.folders.push(folder);
            }
        }
    }

    fn entry(&mut self, path: &str, mode: usize, content: &[u8]) {
        self.count += 1;
        let name = path.len() + 1;
        self.bytes.extend(b"070701");
        for field in [self.count, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name, 0] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        for part in [[path.as_bytes(), b"\0"].concat().as_slice(), content] {
            self.bytes.extend(part);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
