package engines

import (
	"errors"
	"os"
	"syscall"
)

// syncData makes what was written to the file durable, without such metadata as its
// times.
func syncData(file *os.File) error {
	for {
		err := syscall.Fdatasync(int(file.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
