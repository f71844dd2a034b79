//go:build !linux

package engines

import "os"

// syncData makes what was written to the file durable.
func syncData(file *os.File) error { return file.Sync() }
