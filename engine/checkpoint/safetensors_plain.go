package checkpoint

import "bytes"

// plain reads a header as programs write it: no escapes in strings, whole numbers, only
// the known keys, each once. Opening a file of thousands of tensors is several times
// faster so. It gives up at anything else, and the header is then read again as JSON at
// large, which finds the words for what is wrong.
type plain struct {
	text  []byte // what is left
	ok    bool
	dtype string // the last that was read: most tensors have the same
}

// parsePlain reads the header, and reports false where it is not plain: then nothing of
// f has changed.
func (f *File) parsePlain(header []byte) (bool, error) {
	if bytes.IndexByte(header, '\\') >= 0 {
		return false, nil
	}
	const least = len(`"":{"dtype":"I8","shape":[],"data_offsets":[0,0]},`)
	names := make(map[string]bool, min(len(header)/least, 1<<12))
	var entries []described
	var metadata map[string]string
	p := &plain{text: header, ok: true}
	p.object(func(key []byte) {
		if string(key) == metadataKey && metadata == nil {
			metadata = p.strings()
			return
		}
		name := string(key)
		p.ok = p.ok && name != metadataKey && !names[name]
		names[name] = true
		entries = append(entries, p.entry(name))
	})
	p.space()
	if !p.ok || len(p.text) > 0 {
		return false, nil
	}
	f.metadata = metadata
	f.tensors = make([]placed, 0, len(entries))
	for _, e := range entries {
		if err := f.add(e); err != nil {
			return true, err
		}
	}
	return true, nil
}

// space skips what JSON ignores.
func (p *plain) space() {
	for len(p.text) > 0 {
		switch p.text[0] {
		case ' ', '\n', '\r', '\t':
			p.text = p.text[1:]
		default:
			return
		}
	}
}

// next takes a character if it comes next, behind space.
func (p *plain) next(c byte) bool {
	p.space()
	if !p.ok || len(p.text) == 0 || p.text[0] != c {
		return false
	}
	p.text = p.text[1:]
	return true
}

func (p *plain) want(c byte) { p.ok = p.next(c) }

// list reads items until the closing character.
func (p *plain) list(open, end byte, item func()) {
	p.want(open)
	if p.next(end) {
		return
	}
	for p.ok {
		if item(); p.next(end) {
			return
		}
		p.want(',')
	}
}

// object reads an object and calls value for every key.
func (p *plain) object(value func(key []byte)) {
	p.list('{', '}', func() {
		key := p.string()
		p.want(':')
		value(key)
	})
}

// string reads a string; the header has no escapes.
func (p *plain) string() []byte {
	p.want('"')
	n := bytes.IndexByte(p.text, '"')
	if !p.ok || n < 0 {
		p.ok = false
		return nil
	}
	s := p.text[:n]
	p.text = p.text[n+1:]
	for _, c := range s {
		if c < ' ' {
			p.ok = false
		}
	}
	return s
}

// strings reads an object of strings.
func (p *plain) strings() map[string]string {
	m := map[string]string{}
	p.object(func(key []byte) {
		if _, twice := m[string(key)]; twice {
			p.ok = false
		}
		m[string(key)] = string(p.string())
	})
	return m
}

// number reads digits, of which 18 fit.
func (p *plain) number() uint64 {
	p.space()
	n, v := 0, uint64(0)
	for n < len(p.text) && p.text[n] >= '0' && p.text[n] <= '9' && n <= 18 {
		v = 10*v + uint64(p.text[n]-'0')
		n++
	}
	if n == 0 || n > 18 || n > 1 && p.text[0] == '0' {
		p.ok = false
	}
	p.text = p.text[n:]
	return v
}

func (p *plain) numbers() []uint64 {
	list := make([]uint64, 0, 4)
	p.list('[', ']', func() { list = append(list, p.number()) })
	return list
}

// entry reads a tensor's object.
func (p *plain) entry(name string) described {
	e := described{name: name}
	var dtype, shape, offsets int
	p.object(func(key []byte) {
		switch string(key) {
		case "dtype":
			if s := p.string(); string(s) != p.dtype {
				p.dtype = string(s)
			}
			e.dtype = p.dtype
			dtype++
		case "shape":
			e.shape = p.numbers()
			shape++
		case "data_offsets":
			e.offsets = p.numbers()
			offsets++
		default:
			p.ok = false
		}
	})
	p.ok = p.ok && dtype == 1 && shape == 1 && offsets == 1 && len(e.offsets) == 2
	return e
}
