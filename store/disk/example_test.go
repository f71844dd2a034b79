package disk_test

import (
	"fmt"
	"log"
	"os"

	"github.com/plugbus/plugbus/store"
	"github.com/plugbus/plugbus/store/disk"
)

// What was committed is there when the directory is opened again.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	engine, err := disk.Open(dir, disk.Options{})
	if err != nil {
		log.Fatal(err)
	}
	err = engine.Commit([]store.Op{
		{Bucket: "notes", Key: "monday", Value: []byte("buy milk")},
		{Bucket: "notes", Key: "tuesday", Value: []byte("drink it")},
		{Bucket: "notes", Key: "monday"}, // No value: it is deleted.
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := engine.Close(); err != nil {
		log.Fatal(err)
	}

	engine, err = disk.Open(dir, disk.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = engine.Close() }()
	err = engine.Load(func(bucket, key string, value []byte) error {
		fmt.Printf("%s/%s: %s\n", bucket, key, value)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// notes/tuesday: drink it
}
