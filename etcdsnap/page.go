package etcdsnap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// The pages of bbolt (internal/common of go.etcd.io/bbolt), as a machine writes them that is little-endian. All numbers are.
//
//	page    id (8), flags (2), count (2), how many more pages it takes (4), then
//	meta    magic (4), version (4), page size (4), flags (4), root of the buckets (8), sequence (8), free list (8), end of the pages (8), transaction (8),
//	        checksum (8)
//	branch  count times: offset of the key from here (4), its size (4), page (8)
//	leaf    count times: flags (4), offset of the key from here (4), its size (4), size of the value behind it (4)
//
// A leaf with flag 1 is a bucket: its value is the page of its root (8) and a sequence (8). If the root is 0, that is a page behind it.
const (
	pageHeader  = 16
	elementSize = 16
	metaSize    = 64

	flagBranch = 1
	flagLeaf   = 2
	flagMeta   = 4

	leafBucket   = 1
	bucketHeader = 16

	boltMagic   = 0xED0CDAED
	boltVersion = 2

	minPageSize, maxPageSize = 512, 64 << 10
	// maxDepth is above that of any tree that a file can hold: a branch has two pages at least.
	maxDepth = 64
	// maxPageBytes bounds one page with those that it takes beyond its own: a row of a few pages, or one large value.
	maxPageBytes = 1 << 30
)

// pages reads the pages of a file.
type pages struct {
	file     io.ReaderAt
	pageSize int64
	end      uint64 // page behind the last one
	root     uint64 // of the bucket that has the buckets
}

func damagedf(format string, arguments ...any) error {
	return fmt.Errorf("%w: %s. Take another one; if its hash is right, it was damaged before it was made", ErrDamaged, fmt.Sprintf(format, arguments...))
}

// openPages reads the meta pages: the newer one that is whole counts. size is that of the file without the hash.
func openPages(file io.ReaderAt, size int64) (*pages, error) {
	var found *pages
	newest := uint64(0)
	look := func(at int64) error {
		var page [pageHeader + metaSize]byte
		if at+int64(len(page)) > size {
			return nil
		}
		if _, err := file.ReadAt(page[:], at); err != nil {
			return fmt.Errorf("read the snapshot: %w", err)
		}
		if p, transaction := parseMeta(page[:]); p != nil && (found == nil || transaction >= newest) {
			found, newest = p, transaction
		}
		return nil
	}
	// The second one is a page behind the first, and the first may not be whole.
	if err := look(0); err != nil {
		return nil, err
	}
	for at := int64(minPageSize); at <= maxPageSize; at *= 2 {
		if found != nil && at != found.pageSize {
			continue
		}
		if err := look(at); err != nil {
			return nil, err
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: it does not begin as a file of bbolt does", ErrNotBolt)
	}
	if size < 2*found.pageSize || found.end > uint64(size/found.pageSize) {
		return nil, damagedf("it has %d bytes, and says of itself that it has %d pages of %d: it was cut off", size, found.end, found.pageSize)
	}
	found.file = file
	return found, nil
}

func parseMeta(page []byte) (p *pages, transaction uint64) {
	meta := page[pageHeader:]
	sum := fnv.New64a()
	sum.Write(meta[:metaSize-8])
	if binary.LittleEndian.Uint16(page[8:])&flagMeta == 0 || binary.LittleEndian.Uint32(meta) != boltMagic ||
		binary.LittleEndian.Uint32(meta[4:]) != boltVersion || binary.LittleEndian.Uint64(meta[metaSize-8:]) != sum.Sum64() {
		return nil, 0
	}
	p = &pages{pageSize: int64(binary.LittleEndian.Uint32(meta[8:])), root: binary.LittleEndian.Uint64(meta[16:]), end: binary.LittleEndian.Uint64(meta[40:])}
	if p.pageSize < minPageSize || p.pageSize > maxPageSize || p.pageSize&(p.pageSize-1) != 0 {
		return nil, 0
	}
	return p, binary.LittleEndian.Uint64(meta[48:])
}

// read returns a page, with those that it takes beyond its own.
func (p *pages) read(id uint64) ([]byte, error) {
	if id < 2 || id >= p.end {
		return nil, damagedf("a page refers to page %d of %d", id, p.end)
	}
	page := make([]byte, p.pageSize)
	at := int64(id) * p.pageSize
	if _, err := p.file.ReadAt(page, at); err != nil {
		return nil, fmt.Errorf("read page %d of the snapshot: %w", id, err)
	}
	more := uint64(binary.LittleEndian.Uint32(page[12:]))
	if found := binary.LittleEndian.Uint64(page); found != id || more >= p.end-id || (more+1)*uint64(p.pageSize) > maxPageBytes {
		return nil, damagedf("page %d says that it is page %d and takes %d more", id, found, more)
	}
	if more == 0 {
		return page, nil
	}
	page = append(page, make([]byte, int64(more)*p.pageSize)...)
	if _, err := p.file.ReadAt(page[p.pageSize:], at+p.pageSize); err != nil {
		return nil, fmt.Errorf("read page %d of the snapshot: %w", id, err)
	}
	return page, nil
}

// element is a row of a page: of a leaf with its value, of a branch with a page.
type element struct {
	flags      uint32
	key, value []byte
	page       uint64
}

// element takes the i-th out of a page.
func elementOf(page []byte, i int, leaf bool) (e element, err error) {
	start := pageHeader + i*elementSize
	if start+elementSize > len(page) {
		return e, damagedf("a page has more rows than fit into it")
	}
	head := page[start:]
	number := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(head[at:])) }
	position, keySize, valueSize := number(0), number(4), uint64(0)
	if leaf {
		e.flags, position, keySize, valueSize = uint32(number(0)), number(4), number(8), number(12)
	} else {
		e.page = binary.LittleEndian.Uint64(head[8:])
	}
	if position > uint64(len(head)) || keySize+valueSize > uint64(len(head))-position {
		return e, damagedf("a row is not within its page")
	}
	e.key = head[position : position+keySize]
	e.value = head[position+keySize : position+keySize+valueSize]
	return e, nil
}

// walk gives the leaves of a tree to fn, in order. What it gives is valid only during the call.
type walk struct {
	pages *pages
	fn    func(element) error
	last  []byte // key
	found int    // rows
}

// rows walks over the rows of a bucket.
func (p *pages) rows(bucket []byte, fn func(element) error) error {
	w := &walk{pages: p, fn: fn}
	if len(bucket) < bucketHeader {
		return damagedf("a bucket has no root")
	}
	root := binary.LittleEndian.Uint64(bucket)
	if root != 0 {
		return w.page(root, 0)
	}
	if len(bucket) < bucketHeader+pageHeader {
		return damagedf("a bucket has no root")
	}
	return w.leaves(bucket[bucketHeader:])
}

func (w *walk) page(id uint64, depth int) error {
	if depth > maxDepth {
		return damagedf("its tree is deeper than %d", maxDepth)
	}
	page, err := w.pages.read(id)
	if err != nil {
		return err
	}
	if flags := binary.LittleEndian.Uint16(page[8:]); flags == flagLeaf {
		return w.leaves(page)
	} else if flags != flagBranch {
		return damagedf("page %d is of an unknown kind, %d", id, flags)
	}
	count := int(binary.LittleEndian.Uint16(page[10:]))
	var before []byte
	for i := range count {
		e, err := elementOf(page, i, false)
		if err != nil {
			return err
		}
		// As the order of the leaves is looked after, no page is read twice for long. One without rows would be.
		if i > 0 && bytes.Compare(before, e.key) >= 0 {
			return damagedf("page %d is not in order", id)
		}
		before = e.key
		found := w.found
		if err := w.page(e.page, depth+1); err != nil {
			return err
		}
		if found == w.found {
			return damagedf("page %d refers to a page without rows", id)
		}
	}
	return nil
}

func (w *walk) leaves(page []byte) error {
	if flags := binary.LittleEndian.Uint16(page[8:]); flags != flagLeaf {
		return damagedf("the rows of a bucket are in a page of kind %d", flags)
	}
	for i := range int(binary.LittleEndian.Uint16(page[10:])) {
		e, err := elementOf(page, i, true)
		if err != nil {
			return err
		}
		if w.found > 0 && bytes.Compare(w.last, e.key) >= 0 {
			return damagedf("the rows of a bucket are not in order")
		}
		w.last, w.found = append(w.last[:0], e.key...), w.found+1
		if err := w.fn(e); err != nil {
			return err
		}
	}
	return nil
}
