package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// A dirLock keeps a directory from being opened twice. It has a file of its own, since
// the others are replaced. The system gives the lock back when the process ends,
// however it does.
type dirLock struct {
	file *os.File
}

// lockDir locks dir, or returns an error that matches ErrLocked.
func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, lockName)
	for {
		f, err := openLocked(path)
		if errors.Is(err, errHeld) {
			return nil, fmt.Errorf("disk: directory %q is %w%s: close it there first", dir, ErrLocked, holder(path))
		}
		if err != nil {
			return nil, fmt.Errorf("disk: lock directory %q: %w", dir, err)
		}
		// Whoever has refused the directory meanwhile has removed the file.
		if ours, err := f.Stat(); err == nil {
			if named, err := os.Stat(path); err == nil && os.SameFile(ours, named) {
				return &dirLock{file: f}, nil
			}
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

var errHeld = errors.New("held")

// holder says which process holds the lock, if that is known.
func holder(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(string(text))
	switch {
	case err != nil:
		return ""
	case pid == os.Getpid():
		return " by this process"
	}
	return fmt.Sprintf(" by process %d", pid)
}

// announce writes down who holds the lock.
func (l *dirLock) announce() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	return err
}

// release gives the lock back. The file stays. To close it would not do: a process that
// is just being started has a copy of it for a moment.
func (l *dirLock) release() error { return errors.Join(unlock(l.file), l.file.Close()) }

// refuse gives the lock back, and leaves the directory as it was before. A lock file that
// is empty has never been that of an open directory.
func (l *dirLock) refuse() error {
	if info, err := l.file.Stat(); err != nil || info.Size() > 0 {
		return errors.Join(err, l.release())
	}
	return removeLocked(l.file)
}
