// Package disk keeps the persistent stores of package store in a directory. Its [Engine]
// is a store.Backend:
//
//	engine, err := disk.Open(dir, disk.Options{})
//	db, err := store.Open(store.Options{Backend: engine}) // Closing db closes engine.
//
// # Durability
//
// When [Engine.Commit] has returned nil, all its ops survive the death of the process
// and of the machine, as far as the medium keeps what it has confirmed. A commit that a
// crash interrupts is there wholly or not at all.
//
// A commit is one record of a log, and one sync. When the log has grown, a checkpoint
// works it into the database file, a bbolt file, beside further commits. So the same
// data is written twice, but many small writes become few large ones.
//
// # Failure
//
// After an error of the disk the engine commits nothing more, since it does not know
// what the disk will do next. What was committed can still be read and backed up. The
// error says whether the commit may be seen when the directory is opened again, which
// always works, unless a file was damaged by others.
//
// # Damage
//
// [Open] reads all of both files before it opens them. If one is cut off, damaged,
// missing, of a newer format, or not ours, the error is a [*FileError], and nothing in
// the directory has changed. Checksums of 32 bits protect every record of the log and
// every pair of the database: against chance, not against those who may write the files.
//
// Of a last record that is not whole, the engine assumes a crash if what is missing is
// what a crash takes: whole sectors, which are zeros then, or the end of the file. It
// was never acknowledged, and is left out. One that is wrong in another way is damage.
// So if the log is cut off, exactly the commits that are whole are there, but for those
// that the database needs, without which it is refused.
//
// # Locking
//
// A directory is open at most once, in all processes of the machine. A second Open
// returns an error that matches [ErrLocked], and says which process has it open. The
// lock ends with the process. On file systems of the network it is as good as theirs.
//
// # Backups
//
// [Engine.Backup] writes one file, while commits go on. Give it the name [BackupName] in
// an empty directory, and Open takes it up. Do not copy the files of a directory that is
// open: the copies would be of different moments. The files belong together, and can be
// moved to a machine with the same order of bytes.
//
// # Bounds
//
// The log is as long as Options.LogBytes, or somewhat longer beside a large database
// file; while a backup or a checkpoint goes on, it may become four times as long before
// commits wait. Until they are worked into the database file, changed values stay in
// memory. A commit has at most 1 GiB.
package disk
