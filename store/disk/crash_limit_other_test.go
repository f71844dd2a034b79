//go:build !linux

package disk_test

// limitedChild has nothing to do: the limits of crash_limit_linux_test.go are those of
// Linux.
func limitedChild(string, string) {}
