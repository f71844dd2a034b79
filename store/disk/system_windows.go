package disk

import (
	"errors"
	"os"
	"syscall"
)

// errorSharingViolation is what Windows answers if another has opened the file.
const errorSharingViolation syscall.Errno = 32

// openLocked opens the file at path, made if it is missing, in a way that others can
// only read it. The error is errHeld if another has it open so.
func openLocked(path string) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	handle, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, syscall.FILE_SHARE_READ,
		nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, errorSharingViolation) {
		return nil, errHeld
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(handle), path), nil
}

// unlock does nothing: Windows gives back the lock of a file when it is closed.
func unlock(*os.File) error { return nil }

// removeLocked removes a file, which Windows does not do while it is open.
func removeLocked(f *os.File) error { return errors.Join(f.Close(), os.Remove(f.Name())) }

// syncDir does nothing: Windows cannot sync a directory, and keeps names in a journal.
func syncDir(string) error { return nil }
