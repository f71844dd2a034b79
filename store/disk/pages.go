package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The format of a bbolt file, as far as it is walked here. All numbers are in the
// order of the machine.
//
//	page:     id 8, kind 2, count 2, overflow 4 (further pages that belong to it);
//	          then the elements, then their keys and values in the same order
//	element:  branch: pos 4, key size 4, page 8; leaf: flags 4, pos 4, key size 4,
//	          value size 4. The pos counts from the element to its key.
//	bucket:   a value: root page 8 (0 if the page follows in the value), sequence 8
//	meta:     a page: magic 4, version 4, page size 4, flags 4, bucket 16, freelist 8,
//	          pages 8, transaction 8, checksum 8
//	freelist: a page: ids of 8; if their count is 65535, the first is the count
const (
	pageBytes        = 4096
	pageHeaderBytes  = 16
	elementBytes     = 16
	bucketBytes      = 16
	metaBytes        = 64
	boltMagic        = 0xED0CDAED
	boltVersion      = 2
	branchPage       = 1
	leafPage         = 2
	freelistPage     = 16
	bucketFlag       = 1
	maxDepth         = 64 // 2⁶⁴ pages do not make a deeper tree
	manyFreePages    = 0xFFFF
	noFreelistSynced = ^uint64(0)
)

var native = binary.NativeEndian

// An inspection walks all pages that are in use. bbolt trusts its file: it would follow
// a wrong number out of the mapped memory, or in a circle until the stack overflows,
// and neither can be recovered from. So everything is checked here that bbolt relies
// on, and then also that no page is lost, and that the pairs are those that were written.
type inspection struct {
	file    io.ReaderAt
	pages   uint64   // in the file; those behind are not in use
	seen    []bool   // by page
	buffers [][]byte // by depth
	sum     uint64   // of all pairs
	head    head
}

// A bolt meta page.
type meta struct {
	root, freelist, pages, tx uint64
}

// inspect reads the database file at path and returns its head. The file is not
// changed. The error is a [*FileError], or that of reading.
func inspect(path string) (head, error) {
	f, err := os.Open(path)
	if err != nil {
		return head{}, err
	}
	var h head
	info, err := f.Stat()
	if err == nil {
		h, err = inspectPages(f, info.Size())
	}
	return h, errors.Join(at(path, err), f.Close())
}

func inspectPages(f io.ReaderAt, size int64) (head, error) {
	m, err := readMeta(f, size)
	if err != nil {
		return head{}, err
	}
	in := &inspection{file: f, pages: m.pages, seen: make([]bool, m.pages)}
	in.seen[0], in.seen[1] = true, true
	if err := in.freelist(m.freelist); err != nil {
		return head{}, err
	}
	if err := in.tree(m.root, 0, nil, nil, in.topLevel); err != nil {
		return head{}, err
	}
	for id, seen := range in.seen {
		if !seen {
			return head{}, damaged("page %d of %d is neither in use nor free", id, in.pages)
		}
	}
	if in.head.size == 0 {
		return head{}, &FileError{Problem: fmt.Sprintf("it is a bbolt file, but has no bucket %q", headBucket), Err: ErrForeign}
	}
	if in.sum != in.head.sum {
		return head{}, damaged("the checksum of its pairs is wrong")
	}
	return in.head, nil
}

// readMeta returns the newer of the meta pages that are whole. A crash leaves one that
// is not; that an older one is not the last is found by comparing with the log.
func readMeta(f io.ReaderAt, size int64) (meta, error) {
	var newest meta
	found := false
	problem := damaged("it has %d bytes, and none of its meta pages is whole", size)
	for page := range int64(2) {
		b := make([]byte, metaBytes)
		if _, err := f.ReadAt(b, page*pageBytes+pageHeaderBytes); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return meta{}, err
		}
		sum := fnv.New64a()
		sum.Write(b[:56])
		magic, version, size := native.Uint32(b), native.Uint32(b[4:]), native.Uint32(b[8:])
		switch {
		case magic != boltMagic && page == 0:
			problem = &FileError{Problem: "it is no bbolt file", Err: ErrForeign}
			continue
		case magic != boltMagic || native.Uint64(b[56:]) != sum.Sum64():
			continue
		case version != boltVersion:
			return meta{}, &FileError{Problem: fmt.Sprintf("it is a bbolt file of version %d, want %d", version, boltVersion), Err: ErrNewer}
		case size != pageBytes: // bbolt takes it from either page.
			return meta{}, &FileError{Problem: fmt.Sprintf("it has pages of %d bytes, want %d", size, pageBytes), Err: ErrForeign}
		}
		m := meta{
			root: native.Uint64(b[16:]), freelist: native.Uint64(b[32:]),
			pages: native.Uint64(b[40:]), tx: native.Uint64(b[48:]),
		}
		if !found || m.tx > newest.tx {
			newest, found = m, true
		}
	}
	switch {
	case !found:
		return meta{}, problem
	case newest.pages > uint64(size)/pageBytes:
		return meta{}, damaged("it was cut off: it has %d bytes, want at least %d pages of %d", size, newest.pages, pageBytes)
	case newest.pages < 4:
		return meta{}, damaged("it has %d pages, want 4 or more", newest.pages)
	}
	return newest, nil
}

// page reads a page with all that belongs to it into the buffer of a depth, and
// checks its header.
func (in *inspection) page(id uint64, depth int) ([]byte, error) {
	if depth >= maxDepth {
		return nil, damaged("page %d is deeper than a tree can be", id)
	}
	if depth == len(in.buffers) {
		in.buffers = append(in.buffers, make([]byte, pageBytes))
	}
	if id >= in.pages {
		return nil, damaged("page %d is referred to, beyond the last of %d", id, in.pages)
	}
	b := in.buffers[depth][:pageBytes]
	if _, err := in.file.ReadAt(b, int64(id)*pageBytes); err != nil {
		return nil, err
	}
	overflow := uint64(native.Uint32(b[12:]))
	if native.Uint64(b) != id || id+overflow >= in.pages {
		return nil, damaged("page %d of %d has the header of page %d, with %d more", id, in.pages, native.Uint64(b), overflow)
	}
	for i := id; i <= id+overflow; i++ {
		if in.seen[i] {
			return nil, damaged("page %d is referred to twice", i)
		}
		in.seen[i] = true
	}
	if overflow > 0 {
		if size := int(overflow+1) * pageBytes; cap(b) < size {
			b = make([]byte, size)
		} else {
			b = b[:size]
		}
		in.buffers[depth] = b
		if _, err := in.file.ReadAt(b, int64(id)*pageBytes); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// freelist marks the free pages, and those that say which these are.
func (in *inspection) freelist(id uint64) error {
	if id == noFreelistSynced {
		return &FileError{Problem: "it is a bbolt file without a list of free pages", Err: ErrForeign}
	}
	b, err := in.page(id, 0)
	if err != nil {
		return err
	}
	if kind := native.Uint16(b[8:]); kind != freelistPage {
		return damaged("page %d has kind %d, want %d for the free pages", id, kind, freelistPage)
	}
	ids, count := b[pageHeaderBytes:], uint64(native.Uint16(b[10:]))
	if count == manyFreePages {
		count, ids = native.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return damaged("page %d lists %d free pages, more than it has room for", id, count)
	}
	for i := range count {
		free := native.Uint64(ids[8*i:])
		if free >= in.pages || in.seen[free] {
			return damaged("page %d of %d is in the list of the free pages and elsewhere, or beyond the last", free, in.pages)
		}
		in.seen[free] = true
	}
	return nil
}

// A leafVisit gets what a tree holds: pairs and buckets.
type leafVisit func(key, value []byte, isBucket bool, depth int) error

// tree walks the page id and all below it. Their keys must be at least least, and less
// than bound, unless they are nil.
func (in *inspection) tree(id uint64, depth int, least, bound []byte, visit leafVisit) error {
	b, err := in.page(id, depth)
	if err != nil {
		return err
	}
	switch kind := native.Uint16(b[8:]); kind {
	case leafPage:
		_, err := leaf(b, fmt.Sprintf("page %d", id), least, bound, func(key, value []byte, isBucket bool) error {
			return visit(key, value, isBucket, depth+1)
		})
		return err
	case branchPage:
		return in.branch(b, id, depth, least, bound, visit)
	default:
		return damaged("page %d has kind %d, want a branch or a leaf", id, kind)
	}
}

func (in *inspection) branch(b []byte, id uint64, depth int, least, bound []byte, visit leafVisit) error {
	count := int(native.Uint16(b[10:]))
	next := pageHeaderBytes + count*elementBytes
	if count == 0 || next > len(b) {
		return damaged("page %d has %d branches", id, count)
	}
	keys := make([][]byte, count)
	for i := range count {
		at := pageHeaderBytes + i*elementBytes
		key, _, ok := cut(b, at, &next, native.Uint32(b[at:]), native.Uint32(b[at+4:]), 0)
		if !ok || !ordered(least, key, bound, i == 0) {
			return damaged("branch %d of page %d is out of its place", i, id)
		}
		keys[i], least = key, key
	}
	for i, key := range keys {
		end := bound
		if i+1 < count {
			end = keys[i+1]
		}
		child := native.Uint64(b[pageHeaderBytes+i*elementBytes+8:])
		if err := in.tree(child, depth+1, key, end, visit); err != nil {
			return err
		}
	}
	return nil
}

// leaf walks the pairs of one page, and returns where the last one ends. Errors say where
// the page is.
func leaf(b []byte, where string, least, bound []byte, visit func(key, value []byte, isBucket bool) error) (end int, err error) {
	count := int(native.Uint16(b[10:]))
	next := pageHeaderBytes + count*elementBytes
	if next > len(b) {
		return 0, damaged("%s has %d pairs", where, count)
	}
	for i := range count {
		at := pageHeaderBytes + i*elementBytes
		flags := native.Uint32(b[at:])
		key, value, ok := cut(b, at, &next, native.Uint32(b[at+4:]), native.Uint32(b[at+8:]), native.Uint32(b[at+12:]))
		if !ok || flags > bucketFlag || len(value) == 0 || !ordered(least, key, bound, i == 0) {
			return 0, damaged("pair %d of %s is out of its place", i, where)
		}
		if err := visit(key, value, flags == bucketFlag); err != nil {
			return 0, err
		}
		least = key
	}
	return next, nil
}

// cut returns the key and the value of the element at at, which must begin at next, as
// bbolt writes them, and end in the page.
func cut(b []byte, at int, next *int, pos, keySize, valueSize uint32) (key, value []byte, ok bool) {
	begin, split := *next, int64(*next)+int64(keySize)
	end := split + int64(valueSize)
	if int64(at)+int64(pos) != int64(begin) || keySize == 0 || end > int64(len(b)) {
		return nil, nil, false
	}
	*next = int(end)
	return b[begin:split], b[split:end], true
}

// ordered reports whether a key is where it belongs. The first key of a page may be
// that of the branch to it; the others come after the one before.
func ordered(least, key, bound []byte, first bool) bool {
	if c := bytes.Compare(least, key); least != nil && (c > 0 || c == 0 && !first) {
		return false
	}
	return bound == nil || bytes.Compare(key, bound) < 0
}

// topLevel visits a bucket of the file, one of ours.
func (in *inspection) topLevel(name, value []byte, isBucket bool, depth int) error {
	isHead := string(name) == headBucket
	if !isBucket || !isHead && name[0] != bucketPrefix {
		return &FileError{Problem: fmt.Sprintf("it is a bbolt file of something else: it has a %q", name), Err: ErrForeign}
	}
	visit := func(key, value []byte, isBucket bool, _ int) error {
		if isBucket {
			return &FileError{Problem: fmt.Sprintf("it is a bbolt file of something else: bucket %q has a bucket %q", name, key), Err: ErrForeign}
		}
		if !isHead {
			in.sum += pairSum(name, key, value)
			return nil
		}
		if string(key) != headKey {
			return damaged("bucket %q has a key %q", name, key)
		}
		var err error
		in.head, err = decodeHead(value)
		in.head.size = int64(in.pages) * pageBytes
		return err
	}
	if len(value) < bucketBytes || native.Uint64(value[8:]) != 0 {
		return damaged("bucket %q has no sense", name)
	}
	if root := native.Uint64(value); root != 0 {
		return in.tree(root, depth, nil, nil, visit)
	}
	// A small bucket has its only page in its value.
	page := value[bucketBytes:]
	if len(page) < pageHeaderBytes || native.Uint16(page[8:]) != leafPage || native.Uint64(page) != 0 || native.Uint32(page[12:]) != 0 {
		return damaged("bucket %q has no sense", name)
	}
	end, err := leaf(page, fmt.Sprintf("bucket %q", name), nil, nil, func(key, value []byte, isBucket bool) error { return visit(key, value, isBucket, depth) })
	if err == nil && end != len(page) {
		return damaged("bucket %q has %d bytes, want %d", name, len(page), end)
	}
	return err
}
