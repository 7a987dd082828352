//! Another machine than this one, with a shell on it: one whose kernel has GPIO chips that are driven from the test
//! (`gpio-sim`), which may be this one, and one as a router is, with ARM64. `FOREBAY_LONG=1 tests/run` fetches what is
//! emulated.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{command, kill, lines::Lines, now, pause, spawn, test_tools};

/// Where the kernel shows the chips that it is to make up.
const CHIPS: &str = "/sys/kernel/config/gpio-sim";
/// Where the emulator takes commands.
const MONITOR: &str = "monitor";
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
";
/// What the router does before there is a shell.
const ROUTER: &str = "
until [ -e /dev/vda ] && [ -e /sys/class/net/eth0 ]; do sleep 0.1; done
mkdir -p /var/lib/forebay && mount -t ext4 /dev/vda /var/lib/forebay
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up && ip route add default via 10.0.2.2
";
/// Then there is one.
const SHELL: &str = "echo begins\nexec sh\n";

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
    /// What the emulated machine begins with, and where it is watched.
    place: Option<TempDir>,
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
        let mut archive = Archive::begun(&parts, &format!("{INIT}{SHELL}"));
        archive.add_program(Path::new(program)).expect("it was built");
        archive.add_files("folder", folder).expect("the folder is there");
        let mut emulator = command("qemu-system-x86_64");
        emulator.args([
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-append",
            "console=ttyS0 loglevel=1 panic=-1",
        ]);
        Some(Machine::booted(emulator, &parts, &archive, "/forebay", "/folder"))
    }

    /// Starts a machine with two slow ARM64 cores, the file system of the image, and a disk with `ext4` for
    /// its data, which outlives it. It finds this machine at 10.0.2.2. None, with a line that says so, where there is no such machine.
    #[track_caller]
    pub fn router(folder: &Path, disk: &Path) -> Option<Machine> {
        let parts = test_tools().join("machine-arm64");
        let binary = Machine::arm64_program();
        if !parts.join("vmlinuz").exists() || !binary.exists() {
            eprintln!(
                "skipped: the emulated router is fetched, and its program built, by `FOREBAY_LONG=1 tests/run`"
            );
            return None;
        }
        let image = tempfile::tempdir().expect("there is room for an image");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let lay_out =
            Command::new(root.join("release/image-root")).arg(&binary).arg(image.path()).status();
        assert!(lay_out.is_ok_and(|status| status.success()), "the file system of the image");
        let mut archive = Archive::begun(&parts, &format!("{INIT}{ROUTER}{SHELL}"));
        archive.add_files("", image.path()).expect("it was laid out");
        archive.add_files("folder", folder).expect("the folder is there");
        let mut emulator = command("qemu-system-aarch64");
        emulator.args(["-M", "virt", "-cpu", "cortex-a53", "-smp", "2"]);
        emulator.args(["-append", "console=ttyAMA0 loglevel=1 panic=-1"]);
        let drive = format!("if=none,id=disk,format=raw,file={}", disk.display());
        emulator.args(["-drive", &drive, "-device", "virtio-blk-device,drive=disk"]);
        emulator.args(["-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net"]);
        Some(Machine::booted(emulator, &parts, &archive, "/forebay", "/folder"))
    }

    /// What `release/binary arm64` makes.
    fn arm64_program() -> PathBuf {
        let tools = test_tools();
        let target = tools.parent().expect("it is in the target folder");
        target.join("aarch64-unknown-linux-musl/release/forebay")
    }

    /// Boots, until there is a shell.
    #[track_caller]
    fn booted(
        mut emulator: Command,
        parts: &Path,
        archive: &Archive,
        program: &str,
        folder: &str,
    ) -> Machine {
        let disk = tempfile::tempdir().expect("there is room for a disk");
        fs::write(disk.path().join("disk"), archive.finished()).expect("there is room for a disk");
        emulator.args(["-m", "512", "-nodefaults", "-no-reboot", "-display", "none"]);
        emulator.args(["-serial", "stdio", "-kernel"]).arg(parts.join("vmlinuz"));
        emulator.arg("-initrd").arg(disk.path().join("disk"));
        let monitor = format!("unix:{},server=on,wait=off", disk.path().join(MONITOR).display());
        emulator.args(["-monitor", &monitor]);
        let mut machine = Machine::of(emulator, program, folder);
        // What comes before there is a shell is lost.
        (machine.seen, _) =
            machine.output.wait_for("the machine begins", 0, |line| line == "begins");
        machine.place = Some(disk);
        machine
    }

    fn of(mut shell: Command, program: &str, folder: &str) -> Machine {
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = spawn(&mut shell);
        let output = Lines::default();
        output.collect(process.stdout.take().expect("it is piped"));
        let input = process.stdin.take().expect("it is piped");
        let (program, folder) = (program.to_owned(), folder.to_owned());
        Machine { process, input, output, seen: 0, commands: 0, program, folder, place: None }
    }

    /// Presses the power button of an emulated machine.
    pub fn press_power_button(&self) {
        let place = self.place.as_ref().expect("it is emulated").path().join(MONITOR);
        let mut monitor = UnixStream::connect(place).expect("it is watched");
        monitor.write_all(b"system_powerdown\n").expect("it listens");
        // It asks what is next before the command, and once it is done.
        let (mut said, mut byte) = (Vec::new(), [0]);
        while String::from_utf8_lossy(&said).matches("(qemu)").count() < 2 {
            monitor.read_exact(&mut byte).expect("it answers");
            said.push(byte[0]);
        }
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

    /// What every machine begins with: a shell, modules of its kernel, places for what it mounts.
    fn begun(parts: &Path, init: &str) -> Archive {
        let mut archive = Archive::default();
        archive.add("init", init.as_bytes());
        let busybox = fs::read(parts.join("busybox")).expect("`tests/run` has fetched all");
        archive.add("bin/busybox", &busybox);
        for name in ["dev", "proc", "sys", "tmp", "etc"] {
            archive.add_folders_of(&format!("{name}/x"));
        }
        archive.add_files("modules", &parts.join("modules")).expect("`tests/run` has fetched all");
        archive
    }

    /// A program of this machine, with its libraries, and without what a debugger needs.
    fn add_program(&mut self, program: &Path) -> io::Result<()> {
        let place = tempfile::tempdir()?;
        let stripped = place.path().join("forebay");
        let status = command("strip").arg("-o").arg(&stripped).arg(program).status()?;
        assert!(status.success(), "it can be stripped");
        self.add("forebay", &fs::read(&stripped)?);
        let libraries = command("ldd").arg(program).output()?.stdout;
        let libraries = String::from_utf8_lossy(&libraries);
        for path in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            self.add(path.trim_start_matches('/'), &fs::read(path)?);
        }
        Ok(())
    }

    fn add_files(&mut self, name: &str, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = format!("{name}/{}", entry.file_name().to_string_lossy());
            let path = path.trim_start_matches('/');
            if entry.file_type()?.is_dir() {
                self.add_files(path, &entry.path())?;
            } else {
                self.add(path, &fs::read(entry.path())?);
            }
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
        self.bytes.extend(entry(self.count, path, mode, content));
    }

    fn finished(&self) -> Vec<u8> {
        [self.bytes.as_slice(), &entry(self.count + 1, "TRAILER!!!", 0, &[])].concat()
    }
}

/// One file or folder of an archive.
fn entry(number: usize, path: &str, mode: usize, content: &[u8]) -> Vec<u8> {
    let mut bytes = b"070701".to_vec();
    let name = path.len() + 1;
    for field in [number, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name, 0] {
        bytes.extend(format!("{field:08x}").bytes());
    }
    for part in [[path.as_bytes(), b"\0"].concat().as_slice(), content] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}
