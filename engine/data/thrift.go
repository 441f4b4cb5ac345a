package data

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go/format"
)

// A Parquet file's footer and page headers are in Thrift's compact form. The library
// believes the sizes in them, so they are read through here first: every list and
// string must fit into what is there, and every page into its column.

// thrift reads the compact form.
type thrift struct {
	b     []byte
	pos   int
	depth int
}

var errThrift = fmt.Errorf("a header is damaged: %w", ErrFormat)

func (t *thrift) byte() (byte, error) {
	if t.pos >= len(t.b) {
		return 0, errThrift
	}
	t.pos++
	return t.b[t.pos-1], nil
}

func (t *thrift) uvarint() (uint64, error) {
	v, n := binary.Uvarint(t.b[t.pos:])
	if n <= 0 {
		return 0, errThrift
	}
	t.pos += n
	return v, nil
}

func (t *thrift) varint() (int64, error) {
	v, err := t.uvarint()
	return int64(v>>1) ^ -int64(v&1), err
}

func (t *thrift) move(n uint64) error {
	if n > uint64(len(t.b)-t.pos) {
		return errThrift
	}
	t.pos += int(n)
	return nil
}

// structure reads a struct; field gets the numbers of whole-number fields with their
// values, the others are passed over.
func (t *thrift) structure(field func(id int16, v int64)) error {
	if t.depth++; t.depth > 24 {
		return errThrift
	}
	defer func() { t.depth-- }()
	id := int16(0)
	for {
		head, err := t.byte()
		if err != nil || head == 0 {
			return err
		}
		if delta := head >> 4; delta > 0 {
			id += int16(delta)
		} else {
			v, err := t.varint()
			if err != nil {
				return err
			}
			id = int16(v)
		}
		kind := head & 15
		if 4 <= kind && kind <= 6 {
			v, err := t.varint()
			if err != nil {
				return err
			}
			if field != nil {
				field(id, v)
			}
			continue
		}
		if err := t.skip(kind, false); err != nil {
			return err
		}
	}
}

// skip passes over a value; inside a list booleans take a byte.
func (t *thrift) skip(kind byte, inList bool) error {
	switch kind {
	case 1, 2:
		if inList {
			return t.move(1)
		}
		return nil
	case 3:
		return t.move(1)
	case 4, 5, 6:
		_, err := t.uvarint()
		return err
	case 7:
		return t.move(8)
	case 8:
		n, err := t.uvarint()
		if err != nil {
			return err
		}
		return t.move(n)
	case 9, 10:
		return t.list()
	case 12:
		return t.structure(nil)
	}
	return errThrift // maps: Parquet has none
}

func (t *thrift) list() error {
	if t.depth++; t.depth > 24 {
		return errThrift
	}
	defer func() { t.depth-- }()
	head, err := t.byte()
	if err != nil {
		return err
	}
	n := uint64(head >> 4)
	if n == 15 {
		if n, err = t.uvarint(); err != nil {
			return err
		}
	}
	if n > uint64(len(t.b)-t.pos) { // an element takes a byte at least
		return errThrift
	}
	for range n {
		if err := t.skip(head&15, true); err != nil {
			return err
		}
	}
	return nil
}

// footerLimit is the largest footer, in bytes: the library makes of each byte some
// tens.
const footerLimit = 64 << 20

// checkFooter checks the footer's bounds and returns where it begins.
func checkFooter(file io.ReaderAt, size int64) (start int64, err error) {
	var tail [8]byte
	if size < 12 {
		return 0, fmt.Errorf("not a Parquet file: %d bytes: %w", size, ErrFormat)
	}
	if _, err := file.ReadAt(tail[:], size-8); err != nil {
		return 0, err
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if string(tail[4:]) != "PAR1" || n > size-12 || n > footerLimit {
		return 0, fmt.Errorf("not a Parquet file, or cut off: it ends in %.8q: %w", tail, ErrFormat)
	}
	footer := make([]byte, n)
	if _, err := file.ReadAt(footer, size-8-n); err != nil {
		return 0, err
	}
	return size - 8 - n, (&thrift{b: footer}).structure(nil)
}

// checkPages walks through the headers of all pages. What they unpack to must stay
// below budget, and each must lie before end.
func checkPages(file io.ReaderAt, end int64, groups []format.RowGroup, budget int64) error {
	for _, g := range groups {
		for _, c := range g.Columns {
			m := c.MetaData
			at := m.DataPageOffset
			if m.DictionaryPageOffset > 0 && m.DictionaryPageOffset < at {
				at = m.DictionaryPageOffset
			}
			name := fmt.Sprintf("%.60q", m.PathInSchema)
			if at < 4 || m.TotalCompressedSize < 0 || m.TotalCompressedSize > end-at {
				return fmt.Errorf("column %s: %d bytes at %d, the file has %d: %w", name, m.TotalCompressedSize, at, end, ErrFormat)
			}
			for stop := at + m.TotalCompressedSize; at < stop; {
				p, err := readPageHeader(file, at, end)
				if err != nil {
					return fmt.Errorf("column %s: page at byte %d: %w", name, at, err)
				}
				at += p.header + p.packed
				if budget -= p.unpacked; p.packed < 0 || p.unpacked < 0 || at > stop || budget < 0 {
					return fmt.Errorf("column %s: a page of %d bytes, %d unpacked, is too large: %w", name, p.packed, p.unpacked, ErrFormat)
				}
			}
		}
	}
	return nil
}

// page is the sizes of a page.
type page struct{ header, packed, unpacked int64 }

func readPageHeader(file io.ReaderAt, at, end int64) (page, error) {
	for n := int64(1 << 10); ; n *= 16 { // headers hold statistics, so some are long
		buf := make([]byte, min(n, end-at))
		if _, err := file.ReadAt(buf, at); err != nil && err != io.EOF {
			return page{}, err
		}
		t := &thrift{b: buf}
		var p page
		err := t.structure(func(id int16, v int64) {
			switch id {
			case 2:
				p.unpacked = v
			case 3:
				p.packed = v
			}
		})
		if err == nil {
			p.header = int64(t.pos)
			return p, nil
		}
		if n >= end-at || n > 16<<20 {
			return p, err
		}
	}
}
