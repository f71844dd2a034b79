//go:build !linux

package disk_test

// systemChild has nothing to do: the faults of system_linux_test.go are those of Linux.
func systemChild(string) bool { return false }
