package engines

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// An Appender appends pairs to a plain file and syncs its data. Writers that come
// while a sync runs share the next one. That is the least that a durable write can
// cost on a disk: there is no index, no checksum, and no way to undo half a record.
type Appender struct {
	file *os.File

	mu      sync.Mutex // guards below
	leading bool       // somebody is writing a group, or was told to
	next    *group     // who comes now
	spare   []byte     // the buffer of a group that is done
}

// A group is the records that are written and synced together.
type group struct {
	records []byte
	lead    chan struct{} // gets one value, for the member that is to write the group
	done    chan struct{} // closed when err is set
	err     error
}

func newGroup(buffer []byte) *group {
	return &group{records: buffer[:0], lead: make(chan struct{}, 1), done: make(chan struct{})}
}

// OpenAppender opens the file in dir, which it makes if need be.
func OpenAppender(dir string) (*Appender, error) {
	file, err := os.OpenFile(filepath.Join(dir, "records"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &Appender{file: file, next: newGroup(nil)}, nil
}

// Set appends a pair. It is durable when Set has returned nil.
func (a *Appender) Set(key string, value []byte) error {
	a.mu.Lock()
	g := a.next
	g.records = binary.LittleEndian.AppendUint32(g.records, uint32(len(key)))
	g.records = binary.LittleEndian.AppendUint32(g.records, uint32(len(value)))
	g.records = append(append(g.records, key...), value...)
	if !a.leading {
		a.leading = true
		g.lead <- struct{}{}
	}
	a.mu.Unlock()

	select {
	case <-g.done:
	case <-g.lead:
		a.write(g)
	}
	return g.err
}

// write writes the group, and lets the next one go on.
func (a *Appender) write(g *group) {
	// Those whom the last group woke may still join. With 64 writers this takes a
	// quarter off the time of a set.
	runtime.Gosched()
	a.mu.Lock()
	a.next, a.spare = newGroup(a.spare), nil
	a.mu.Unlock()

	_, err := a.file.Write(g.records)
	if err == nil {
		err = syncData(a.file)
	}
	g.err = err
	close(g.done)

	a.mu.Lock()
	defer a.mu.Unlock()
	a.spare = g.records
	if a.leading = len(a.next.records) > 0; a.leading {
		a.next.lead <- struct{}{}
	}
}

// Each visits all pairs in the order in which they were appended.
func (a *Appender) Each(visit func(key string, value []byte) error) error {
	in := bufio.NewReader(io.NewSectionReader(a.file, 0, math.MaxInt64))
	for {
		var sizes [8]byte
		if _, err := io.ReadFull(in, sizes[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("engines: a record of %s ends early: %w", a.file.Name(), err)
		}
		key := binary.LittleEndian.Uint32(sizes[:4])
		record := make([]byte, int64(key)+int64(binary.LittleEndian.Uint32(sizes[4:])))
		if _, err := io.ReadFull(in, record); err != nil {
			return fmt.Errorf("engines: a record of %s ends early: %w", a.file.Name(), err)
		}
		if err := visit(string(record[:key]), record[key:]); err != nil {
			return err
		}
	}
}

// Close closes the file.
func (a *Appender) Close() error { return a.file.Close() }
