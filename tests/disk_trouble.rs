//! A disk that is full or cannot be written is reported and survived: memory does what it can.
//!
//! With real file systems, mounted where only the program under test sees them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::Path,
};

use crate::support::{
    Folder, Forebay, Mosquitto, Publisher, Subscriber, publish, start_inside, until,
};

/// From a broker through a buffer on disk to another.
fn pipeline(plant: &Mosquitto, cloud: &Mosquitto, when_full: &str) -> String {
    format!(
        "connections:
  plant: {{ type: mqtt, url: '{}', client_id: forebay, clean_session: false }}
  cloud: {{ type: mqtt, url: '{}', client_id: forebay }}
sources:
  numbers: {{ type: mqtt, connection: plant, topics: [number], qos: 1, format: text }}
sinks:
  cloud:
    from: numbers
    type: mqtt
    connection: cloud
    format: text
    buffer: {{ store: disk, sync: always, when_full: {when_full} }}
",
        plant.url(),
        cloud.url()
    )
}

/// A message of about a kilobyte that begins with its number.
fn payload(n: usize) -> String {
    format!("{n:04}{}", ".".repeat(1000))
}

#[track_caller]
fn publish_many(plant: &Mosquitto, numbers: std::ops::RangeInclusive<usize>) {
    let mut publisher = Publisher::to(plant.port, "number");
    numbers.for_each(|n| publisher.send(&payload(n)));
    publisher.finish();
}

/// Of these messages, how many did not arrive?
fn missing(subscriber: &Subscriber, numbers: std::ops::RangeInclusive<usize>) -> usize {
    let arrived: BTreeSet<_> = subscriber.payloads().into_iter().collect();
    numbers.filter(|n| !arrived.contains(&payload(*n))).count()
}

/// Takes all that is left of the disk. Removing the file gives it back.
fn take_all_room(file: &Path) {
    let mut file = File::create(file).expect("there is room for a name");
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// Runs on a file system of 2 MiB.
fn start_on_small_disk(folder: &Folder, data: &Folder) -> Option<Forebay> {
    let mount = "mount -t tmpfs -o size=2m tmpfs \"$DATA\"";
    let forebay = start_inside("m", mount, folder.path(), data.path())?;
    forebay.wait_for_log("running");
    Some(forebay)
}

#[test]
fn a_full_disk_loses_nothing_and_works_again_once_there_is_room() {
    fill_and_make_room("disk");
}

#[test]
fn a_full_disk_loses_nothing_of_what_is_spilled_and_works_again_once_there_is_room() {
    fill_and_make_room("spill");
}

fn fill_and_make_room(store: &str) {
    let (plant, mut cloud, data) = (Mosquitto::start(), Mosquitto::start(), Folder::new());
    let subscriber = Subscriber::remembered(cloud.port, "#");
    let folder = Folder::with(&[(
        "a.yaml",
        &pipeline(&plant, &cloud, "block").replace("store: disk", &format!("store: {store}")),
    )]);
    let Some(mut forebay) = start_on_small_disk(&folder, &data) else { return };
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    cloud.stop();
    publish_many(&plant, 1..=20);
    until("all are on the disk", || plant.acknowledged_by("forebay") == 20);
    let filler = forebay.sees(&data.path().join("filler"));
    take_all_room(&filler);

    // More than a file has room for behind what is in it.
    publish_many(&plant, 21..=300);
    forebay.wait_for_log("messages wait in memory, will try again");
    assert!(plant.acknowledged_by("forebay") < 300, "only memory has them");

    cloud.resume();
    until("all arrive by way of memory", || missing(&subscriber, 1..=300) == 0);
    until("all are settled", || plant.acknowledged_by("forebay") == 300);

    cloud.stop();
    publish_many(&plant, 301..=310);
    fs::remove_file(&filler).expect("it is there");
    until("the disk has them", || plant.acknowledged_by("forebay") == 310);
    forebay.wait_for_log("the buffer on disk works again");
    cloud.resume();
    until("all arrive", || missing(&subscriber, 1..=310) == 0);

    forebay.signal("TERM");
    assert_eq!(forebay.wait_exit().code(), Some(0));
}

#[test]
fn a_disk_that_the_buffer_filled_holds_up_the_source_and_works_again_once_it_drains() {
    let (plant, mut cloud, data) = (Mosquitto::start(), Mosquitto::start(), Folder::new());
    let subscriber = Subscriber::remembered(cloud.port, "#");
    let folder = Folder::with(&[("a.yaml", &pipeline(&plant, &cloud, "block"))]);
    let Some(forebay) = start_on_small_disk(&folder, &data) else { return };
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    cloud.stop();

    publish_many(&plant, 1..=3000);
    forebay.wait_for_log("messages wait in memory, will try again");
    assert!(plant.acknowledged_by("forebay") < 3000, "there is no room for them");
    cloud.resume();

    until("all arrive", || missing(&subscriber, 1..=3000) == 0);
    until("all are settled", || plant.acknowledged_by("forebay") == 3000);
    forebay.wait_for_log("the buffer on disk works again");
}

#[test]
fn a_full_disk_drops_the_oldest_if_it_is_to() {
    let (plant, mut cloud, data) = (Mosquitto::start(), Mosquitto::start(), Folder::new());
    let subscriber = Subscriber::remembered(cloud.port, "#");
    let folder = Folder::with(&[("a.yaml", &pipeline(&plant, &cloud, "drop_oldest"))]);
    let Some(mut forebay) = start_on_small_disk(&folder, &data) else { return };
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    cloud.stop();

    // Twice what the disk holds.
    publish_many(&plant, 1..=4000);
    until("the source is not held up", || plant.acknowledged_by("forebay") == 4000);
    forebay.wait_for_log("the oldest messages in the buffer on disk were dropped");
    cloud.resume();

    until("the newest arrive", || missing(&subscriber, 3500..=4000) == 0);
    println!("of 4000 messages of a kilobyte, {} were dropped", missing(&subscriber, 1..=4000));
    assert!(forebay.is_alive());
}

#[test]
fn a_disk_that_cannot_be_written_still_gives_back_what_it_holds() {
    let (plant, mut cloud, data) = (Mosquitto::start(), Mosquitto::start(), Folder::new());
    let subscriber = Subscriber::remembered(cloud.port, "#");
    cloud.stop();
    let folder = Folder::with(&[("a.yaml", &pipeline(&plant, &cloud, "block"))]);
    let mut first = Forebay::run_on(folder.path(), data.path());
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    publish_many(&plant, 1..=20);
    until("all are on the disk", || plant.acknowledged_by("forebay") == 20);
    first.kill();
    let mount = "mount --bind \"$DATA\" \"$DATA\"; mount -o remount,ro,bind \"$DATA\"";
    let Some(mut forebay) = start_inside("m", mount, folder.path(), data.path()) else { return };
    forebay.wait_for_log("running");

    publish_many(&plant, 21..=30);
    forebay.wait_for_log("Read-only file system");
    cloud.resume();
    until("all arrive", || missing(&subscriber, 1..=30) == 0);
    until("all are settled", || plant.acknowledged_by("forebay") == 30);

    cloud.stop();
    let script = format!("mount -o remount,rw,bind '{}'", data.path().display());
    forebay.shell_inside("m", &script);
    publish_many(&plant, 31..=40);
    until("the disk has them", || plant.acknowledged_by("forebay") == 40);
    forebay.wait_for_log("the buffer on disk works again");
    forebay.signal("TERM");
    assert_eq!(forebay.wait_exit().code(), Some(0));
    forebay.wait_for_log("kept=10");
}

#[test]
fn a_data_folder_that_cannot_be_made_is_reported_and_memory_does() {
    let (plant, cloud, data) = (Mosquitto::start(), Mosquitto::start(), Folder::new());
    let subscriber = Subscriber::to(cloud.port, "#");
    let folder = Folder::with(&[("a.yaml", &pipeline(&plant, &cloud, "block"))]);
    data.write("file", "not a folder");
    let forebay = Forebay::run_on(folder.path(), &data.path().join("file"));
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    forebay.wait_for_log("messages wait in memory, will try again");

    publish(plant.port, "number", &payload(1), &["-q", "1"]);
    until("it arrives", || missing(&subscriber, 1..=1) == 0);
    until("it is settled", || plant.acknowledged_by("forebay") == 1);

    data.remove("file");
    forebay.wait_for_log("the buffer on disk works again");
}

#[test]
fn a_folder_that_was_removed_while_the_link_was_away_costs_what_was_only_there() {
    check_removed("live_first", |forebay, _| forebay);
    check_removed("fifo", |forebay, _| forebay);
}

#[test]
fn what_memory_had_of_a_folder_that_was_removed_was_gone_with_the_program() {
    let kill = |mut forebay: Forebay, again: &dyn Fn() -> Forebay| {
        forebay.kill();
        again()
    };
    check_removed("live_first", kill);
    check_removed("fifo", kill);
}

/// Removes the files of a buffer while the link is away, and then does something.
#[track_caller]
fn check_removed(order: &str, then: impl FnOnce(Forebay, &dyn Fn() -> Forebay) -> Forebay) {
    let (plant, mut cloud, data) = (Mosquitto::start(), Mosquitto::start(), Folder::new());
    let subscriber = Subscriber::remembered(cloud.port, "#");
    let text = pipeline(&plant, &cloud, &format!("block, order: {order}"));
    let folder = Folder::with(&[("a.yaml", &text)]);
    let forebay = Forebay::run_on(folder.path(), data.path());
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    cloud.stop();
    // More than memory and the file that is written hold.
    publish_many(&plant, 1..=6000);
    until("all are on the disk", || plant.acknowledged_by("forebay") == 6000);

    fs::remove_dir_all(data.path().join("buffers/a/cloud")).expect("it is there");
    publish_many(&plant, 6001..=6100);
    let line = forebay.wait_for_log("its folder is made anew");
    until("the disk has them", || plant.acknowledged_by("forebay") == 6100);
    let forebay = then(forebay, &|| Forebay::run_on(folder.path(), data.path()));
    cloud.resume();

    until("what came afterwards arrives", || missing(&subscriber, 6001..=6100) == 0);
    publish_many(&plant, 6101..=6110);
    until("and what comes now", || missing(&subscriber, 6101..=6110) == 0);
    let said = line.split("lost_records=").nth(1).and_then(|rest| rest.split(' ').next());
    let said: usize = said.and_then(|number| number.parse().ok()).expect("it says how many");
    until("what memory had arrives", || missing(&subscriber, 1..=6000) <= said);
    let lost = missing(&subscriber, 1..=6000);
    println!("{order}: {lost} of 6000 are lost, {said} as the log says");
    assert!(lost > 0 && lost == said, "what memory still had is not lost: {lost} {said}");
    drop(forebay);
}

/// Has ext4 refuse everything from now on, as when the medium is pulled out.
const SHUT_DOWN: &str = r#"perl -e 'open(F, "<", $ARGV[0]) or die; $now = pack("L", 2);
    ioctl(F, 0x8004587D, $now) or die "$!"' "#;

#[test]
fn a_disk_that_died_while_the_link_was_away_stops_nothing_that_comes_now() {
    let (plant, mut cloud, data) = (Mosquitto::start(), Mosquitto::start(), Folder::new());
    let images = Folder::new();
    let image = images.path().join("disk");
    let mount = format!(
        // Only the buffers: who runs on the data folder holds a lock there.
        "mkdir \"$DATA/buffers\"; truncate -s 16M {0}; mkfs.ext4 -q {0}; \
         mount -o loop {0} \"$DATA/buffers\"",
        image.display()
    );
    if !std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", &format!("set -e; {mount}; {SHUT_DOWN} \"$DATA/buffers\"")])
        .env("DATA", images.path())
        .status()
        .is_ok_and(|status| status.success())
    {
        return eprintln!("skipped: no file system in a file can be mounted here");
    }
    let subscriber = Subscriber::remembered(cloud.port, "#");
    let folder = Folder::with(&[("a.yaml", &pipeline(&plant, &cloud, "block"))]);
    let Some(mut forebay) = start_inside("m", &mount, folder.path(), data.path()) else { return };
    forebay.wait_for_log("running");
    until("subscribed", || plant.log.count_of("Sending SUBACK to forebay") == 1);
    cloud.stop();
    publish_many(&plant, 1..=3000);
    until("all are on the disk", || plant.acknowledged_by("forebay") == 3000);

    let buffers = data.path().join("buffers");
    forebay.shell_inside("m", &format!("{SHUT_DOWN} '{}'", buffers.display()));
    publish_many(&plant, 3001..=3100);
    forebay.wait_for_log("messages wait in memory, will try again");
    assert_eq!(plant.acknowledged_by("forebay"), 3000, "only memory has the rest");
    cloud.resume();
    until("what is in memory arrives", || missing(&subscriber, 3001..=3100) == 0);
    until("it is settled", || plant.acknowledged_by("forebay") == 3100);
    publish_many(&plant, 3101..=3200);
    until("what comes now arrives", || missing(&subscriber, 3101..=3200) == 0);

    // It lets go of the disk, which is mounted anew and has what was safe.
    let again = format!(
        "for try in $(seq 600); do umount '{0}' && break; sleep 0.1; done; mount -o loop {1} '{0}'",
        buffers.display(),
        image.display()
    );
    forebay.shell_inside("m", &again);
    until("all that was safe arrives", || missing(&subscriber, 1..=3000) == 0);
    forebay.wait_for_log("the buffer on disk works again");
    forebay.signal("TERM");
    assert_eq!(forebay.wait_exit().code(), Some(0));
}
