package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/plugbus/plugbus/store"
)

// logChunk is by how many bytes of zeros a log grows. A record that is written over
// zeros changes no metadata of the file system, which makes its sync a third faster;
// and it finds its room, so that a full disk shows before anything was written.
const logChunk = 256 << 10

// A logFile is the log of a directory, open for appending.
type logFile struct {
	header
	path  string
	file  *os.File
	last  uint64 // number of the last commit
	end   int64  // where the next record goes
	size  int64  // of the file: what is behind end is zero
	fault func(step string) error
	syncs uint64
}

// step asks the fault of a test, if there is one, whether a step may be done.
func step(fault func(string) error, name string) error {
	if fault == nil {
		return nil
	}
	return fault(name)
}

// writeLog puts a new log in the place of the one at path, or of none: whatever
// happens, there is either the old or the new one. The new one begins with the
// records that are in tail.
func writeLog(path string, h header, tail []byte, fault func(string) error) (*logFile, error) {
	l := &logFile{header: h, path: path, fault: fault, last: h.base, end: headerBytes + int64(len(tail))}
	temp := path + tempSuffix
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	l.size = (l.end + logChunk - 1) / logChunk * logChunk
	content := make([]byte, l.size)
	copy(content[copy(content, h.encode()):], tail)
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = errors.Join(step(fault, "log sync"), f.Sync())
	}
	// Windows renames no file that is open.
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(temp))
	}
	if _, err := replace(temp, path, fault); err != nil {
		return nil, err
	}
	l.file, err = os.OpenFile(path, os.O_RDWR, 0)
	return l, err
}

// replace gives the file temp the name path, which survives a crash once it returns
// nil.
func replace(temp, path string, fault func(string) error) (renamed bool, err error) {
	if err := step(fault, "rename"); err != nil {
		return false, err
	}
	if err := os.Rename(temp, path); err != nil {
		return false, err
	}
	if err := step(fault, "renamed"); err != nil {
		return true, err
	}
	return true, syncDir(filepath.Dir(path))
}

// remove removes the file at path, if it is there.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// append makes a record durable. Its error matches store.ErrNotDone if it is certain
// that the record will never be read.
func (l *logFile) append(record []byte) error {
	if err := l.extend(l.end + int64(len(record))); err != nil {
		return fmt.Errorf("%w: %w", store.ErrNotDone, err)
	}
	if err := l.write(record); err != nil {
		// What a failed sync has left on the disk is unknown. But if zeros in the
		// place of the frame get there, the record is none.
		if l.write(make([]byte, frameBytes)) == nil {
			return fmt.Errorf("%w: %w", store.ErrNotDone, err)
		}
		return err
	}
	l.end += int64(len(record))
	l.last++
	return nil
}

func (l *logFile) write(b []byte) error {
	if err := step(l.fault, "append"); err != nil {
		return err
	}
	if _, err := l.file.WriteAt(b, l.end); err != nil {
		return err
	}
	if err := step(l.fault, "append sync"); err != nil {
		return err
	}
	l.syncs++
	return syncData(l.file)
}

// extend fills the file with zeros, for records up to the offset end.
func (l *logFile) extend(end int64) error {
	for zeros := []byte(nil); l.size < end; l.size += logChunk {
		if err := step(l.fault, "extend"); err != nil {
			return err
		}
		if zeros == nil {
			zeros = make([]byte, logChunk)
		}
		if _, err := l.file.WriteAt(zeros, l.size); err != nil {
			return err
		}
	}
	return nil
}

// trim leaves out the records before the offset from, whose last is number base.
func (l *logFile) trim(from int64, base uint64) error {
	tail := make([]byte, l.end-from)
	if _, err := l.file.ReadAt(tail, from); err != nil {
		return err
	}
	if err := l.file.Close(); err != nil {
		return err
	}
	h := l.header
	h.base = base
	trimmed, err := writeLog(l.path, h, tail, l.fault)
	if err != nil {
		return err
	}
	trimmed.last, trimmed.syncs = l.last, l.syncs
	*l = *trimmed
	return nil
}

// readLog reads the log at path and its header.
func readLog(path string) ([]byte, header, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, header{}, err
	}
	h, err := decodeHeader(b)
	return b, h, at(path, err)
}

// replay returns what the log b, which begins with h, holds and a database with the head
// db does not. If the log is torn it must be trimmed before anything is appended. The
// error is a [*FileError] without a path.
func replay(b []byte, h header, db head) (l *logFile, pending changes, torn bool, err error) {
	if h.id != db.id {
		return nil, nil, false, &FileError{Problem: "it belongs to another database", Err: ErrForeign}
	}
	if h.base > db.applied {
		return nil, nil, false, damaged("it begins after commit %d, but the database ends with commit %d", h.base, db.applied)
	}
	l = &logFile{header: h, last: h.base, end: headerBytes, size: int64(len(b))}
	pending = make(changes)
	for {
		f, body, err := nextRecord(b, int(l.end), h, l.last+1)
		if torn = errors.Is(err, errTorn); torn || err == nil && f.ops == 0 {
			break
		}
		if err == nil && f.number > db.applied {
			err = decodeBody(body, f.ops, pending.add)
		}
		if err != nil {
			return nil, nil, false, damaged("at byte %d: %v", l.end, err)
		}
		l.end += int64(padded(frameBytes + len(body)))
		l.last++
	}
	if l.last < db.applied {
		return nil, nil, false, damaged("it ends with commit %d, but the database with commit %d", l.last, db.applied)
	}
	return l, pending, torn, nil
}

// openLog opens the log at path of a database with the head db.
func openLog(path string, db head, fault func(string) error) (*logFile, changes, bool, error) {
	b, h, err := readLog(path)
	if err != nil {
		return nil, nil, false, err
	}
	l, pending, torn, err := replay(b, h, db)
	if err != nil {
		return nil, nil, false, at(path, err)
	}
	l.path, l.fault = path, fault
	l.file, err = os.OpenFile(path, os.O_RDWR, 0)
	return l, pending, torn, err
}

// close closes the file, unless a trim that failed has.
func (l *logFile) close() error {
	if err := l.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
