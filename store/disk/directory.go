package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/plugbus/plugbus"
)

// BackupName is the name that a file written by [Engine.Backup] must have in an empty
// directory for Open to take it up.
const BackupName = "plugbus.backup"

// The files of a directory. The database and the log belong together: neither is
// there without the other, but for the moment in which a directory is made.
const (
	databaseName = "plugbus.db"
	logName      = "plugbus.log"
	lockName     = "plugbus.lock"
	tempSuffix   = ".tmp" // of a file that has not got its name yet
)

// makeDir makes a directory, if it is missing, and those above it. They survive a crash.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("%w: it is a file; expected a directory", plugbus.ErrInvalid)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// files are those of a locked directory, with what is there.
type files struct {
	database, log, backup          string // paths
	hasDatabase, hasLog, hasBackup bool
}

func findFiles(dir string) (files, error) {
	f := files{
		database: filepath.Join(dir, databaseName),
		log:      filepath.Join(dir, logName),
		backup:   filepath.Join(dir, BackupName),
	}
	var errs [3]error
	f.hasDatabase, errs[0] = isFile(f.database)
	f.hasLog, errs[1] = isFile(f.log)
	f.hasBackup, errs[2] = isFile(f.backup)
	return f, errors.Join(errs[:]...)
}

// isFile reports whether there is a file at path. What is there but is no regular file
// is an error, since to open it may wait for ever.
func isFile(path string) (bool, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, &FileError{Path: path, Problem: "it is not a regular file but " + info.Mode().String(), Err: ErrForeign}
	}
	return true, nil
}

// openFiles opens the files of a locked directory, or makes them.
func openFiles(dir string, o Options) (*Engine, error) {
	f, err := findFiles(dir)
	if err != nil {
		return nil, err
	}
	switch {
	case f.hasDatabase && !f.hasLog:
		return nil, &FileError{Path: f.log, Problem: "it is missing", Err: ErrDamaged}
	case f.hasDatabase && f.hasBackup:
		return nil, &FileError{
			Path: f.backup, Err: ErrForeign,
			Problem: fmt.Sprintf("a backup is taken up where there is no %q", databaseName),
		}
	case !f.hasDatabase:
		if err := f.make(o.fault); err != nil {
			return nil, err
		}
	}
	h, err := inspect(f.database)
	if err != nil {
		return nil, err
	}
	l, pending, torn, err := openLog(f.log, h, o.fault)
	if err != nil {
		return nil, err
	}
	t, err := openTree(f.database, h)
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	// All was found to be right. From here on the directory may change.
	if torn {
		err = l.trim(headerBytes, l.base)
	}
	for _, path := range []string{f.database, f.log} {
		err = errors.Join(err, remove(path+tempSuffix))
	}
	if err != nil {
		return nil, errors.Join(err, t.close(), l.close())
	}
	e := &Engine{
		dir: dir, turn: make(chan struct{}, 1), tree: t, log: l, pending: pending,
		logBytes: o.LogBytes, fault: o.fault,
	}
	e.checkpointed.L = &e.mu
	e.measure()
	return e, nil
}

// make makes the files of a directory without a database, of a backup if there is one.
// The database comes last, so that a crash leaves both, or a log that was never used.
func (f *files) make(fault func(string) error) error {
	if f.hasLog {
		b, h, err := readLog(f.log)
		if err != nil {
			return err
		}
		if !isZero(b[headerBytes:]) || h.base > 0 && !f.hasBackup {
			return &FileError{Path: f.database, Problem: fmt.Sprintf("it is missing, but not its %q", logName), Err: ErrDamaged}
		}
	}
	var h head
	_, _ = rand.Read(h.id[:]) // It never fails.
	if f.hasBackup {
		var err error
		if h, err = inspect(f.backup); err != nil {
			return err
		}
		if err := syncFile(f.backup); err != nil { // It may just have been copied.
			return err
		}
	}
	lh := header{id: h.id, base: h.applied}
	_, _ = rand.Read(lh.salt[:])
	l, err := writeLog(f.log, lh, nil, fault)
	if err != nil {
		return err
	}
	if err := l.close(); err != nil {
		return err
	}
	from := f.backup
	if !f.hasBackup {
		from = f.database + tempSuffix
		if err := errors.Join(remove(from), writeTree(from, h)); err != nil {
			return err
		}
	}
	_, err = replace(from, f.database, fault)
	return err
}

// syncFile makes the content of a file durable that somebody else has written.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
