package disk

import (
	"errors"
	"os"
	"syscall"
)

// syncData makes the content of a file durable, and of its metadata only what reading
// it takes.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		return nil
	}
}
