package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tare/engine/tensor"
)

// raw builds a safetensors file from the description of the format.
func raw(header string, data ...byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

// golden is a file written byte by byte: a [2,2] F32 of 1, -2, 0.5, 0 and a [3] BF16
// of 1, 2, -1, whose entries stand in the header in the other order.
func golden() []byte {
	header := `{"__metadata__":{"format":"pt"},` +
		`"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},` +
		`"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}   `
	return raw(header,
		0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0, 0x00, 0x00, 0x00, 0x3f, 0x00, 0x00, 0x00, 0x00,
		0x80, 0x3f, 0x00, 0x40, 0x80, 0xbf)
}

func put(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadsGoldenFile(t *testing.T) {
	f, err := Open(put(t, filepath.Join(t.TempDir(), "golden.safetensors"), golden()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.Names(); !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("names %v, want the order of the data: a, b", got)
	}
	if got := f.Metadata(); !reflect.DeepEqual(got, map[string]string{"format": "pt"}) {
		t.Errorf("metadata %v", got)
	}
	if got, ok := f.Info("b"); !ok || !reflect.DeepEqual(got, Info{"b", tensor.BF16, []int{3}, 6, "golden.safetensors"}) {
		t.Errorf("info %+v", got)
	}
	for name, want := range map[string][]float32{"a": {1, -2, 0.5, 0}, "b": {1, 2, -1}} {
		x, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := x.Float32s(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	if _, err := f.Tensor("c"); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), `"c"`) {
		t.Errorf("a tensor that is not there: %v", err)
	}
}

func TestTensorAfterClose(t *testing.T) {
	f, err := Open(put(t, filepath.Join(t.TempDir(), "x.safetensors"), golden()))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Tensor("a"); err == nil {
		t.Error("a tensor of a closed file, want an error")
	}
}

// entry returns a header entry.
func entry(name, dtype, shape string, begin, end int) string {
	return fmt.Sprintf(`%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, name, dtype, shape, begin, end)
}

func bad() map[string]struct {
	file []byte
	says string // what the message must name
} {
	zeros := make([]byte, 16)
	type c = struct {
		file []byte
		says string
	}
	good := golden()
	huge := binary.LittleEndian.AppendUint64(nil, math.MaxUint64)
	tooBig := append(binary.LittleEndian.AppendUint64(nil, maxHeader+1), make([]byte, 32)...)
	return map[string]c{
		"empty":                  {nil, "truncated"},
		"shorter than a length":  {[]byte{1, 2, 3}, "truncated"},
		"length past the file":   {good[:20], "truncated"},
		"data cut off":           {good[:len(good)-1], "truncated"},
		"length of all ones":     {append(huge, zeros...), "18446744073709551615"},
		"length past the limit":  {tooBig, "100,000,000"},
		"lfs pointer":            {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS"},
		"empty header":           {raw(""), "{"},
		"header is an array":     {raw("[]"), "{"},
		"space before header":    {raw(" {}"), "{"},
		"not JSON":               {raw("{nonsense}"), "header"},
		"unclosed":               {raw(`{"a":`), "a"},
		"unclosed object":        {raw(`{`), "header"},
		"something behind":       {raw(`{}{}`), "follows"},
		"not UTF-8":              {raw("{\"\xff\":1}"), "UTF-8"},
		"duplicate":              {raw("{"+entry("w", "F32", "[1]", 0, 4)+","+entry("w", "F32", "[1]", 4, 8)+"}", zeros[:8]...), `"w"`},
		"duplicate metadata":     {raw(`{"__metadata__":{},"__metadata__":{}}`), "__metadata__"},
		"duplicate note":         {raw(`{"__metadata__":{"k":"1","k":"2"}}`), `"k"`},
		"note is a number":       {raw(`{"__metadata__":{"k":1}}`), `"k"`},
		"note is null":           {raw(`{"__metadata__":{"k":null}}`), `"k"`},
		"metadata is an array":   {raw(`{"__metadata__":[]}`), "__metadata__"},
		"entry is a number":      {raw(`{"w":3}`), `"w"`},
		"entry is null":          {raw(`{"w":null}`), `"w"`},
		"no dtype":               {raw(`{"w":{"shape":[1],"data_offsets":[0,4]}}`, zeros[:4]...), `"w"`},
		"no shape":               {raw(`{"w":{"dtype":"F32","data_offsets":[0,4]}}`, zeros[:4]...), `"w"`},
		"one offset":             {raw(`{"w":{"dtype":"F32","shape":[],"data_offsets":[4]}}`, zeros[:4]...), `"w"`},
		"three offsets":          {raw(`{"w":{"dtype":"F32","shape":[],"data_offsets":[0,4,4]}}`, zeros[:4]...), `"w"`},
		"unknown dtype":          {raw("{"+entry("w", "F4", "[2]", 0, 1)+"}", 0), `"F4" (known: F32, F16, BF16`},
		"dtype in torch's words": {raw("{"+entry("w", "float32", "[1]", 0, 4)+"}", zeros[:4]...), `"float32"`},
		"negative dimension":     {raw("{"+entry("w", "F32", "[-1]", 0, 4)+"}", zeros[:4]...), `"w"`},
		"broken dimension":       {raw("{"+entry("w", "F32", "[1.5]", 0, 4)+"}", zeros[:4]...), `"w"`},
		"shape overflows":        {raw("{"+entry("w", "F32", "[4294967296,4294967296,4]", 0, 4)+"}", zeros[:4]...), "too large"},
		"size overflows":         {raw("{" + entry("w", "F64", "[2305843009213693952]", 0, 0) + "}"), "too large"},
		"negative offset":        {raw("{"+entry("w", "F32", "[1]", -4, 0)+"}", zeros[:4]...), `"w"`},
		"offsets backwards":      {raw("{"+entry("w", "F32", "[1]", 4, 0)+"}", zeros[:4]...), "backwards"},
		"size is not the shape":  {raw("{"+entry("w", "F32", "[2]", 0, 4)+"}", zeros[:4]...), "takes 8"},
		"overlap":                {raw("{"+entry("v", "F32", "[2]", 0, 8)+","+entry("w", "F32", "[2]", 4, 12)+"}", zeros[:12]...), `overlap`},
		"the same place twice":   {raw("{"+entry("v", "F32", "[2]", 0, 8)+","+entry("w", "F32", "[2]", 0, 8)+"}", zeros[:8]...), `overlap`},
		"hole":                   {raw("{"+entry("v", "F32", "[1]", 0, 4)+","+entry("w", "F32", "[1]", 8, 12)+"}", zeros[:12]...), "hole"},
		"hole at the start":      {raw("{"+entry("w", "F32", "[1]", 4, 8)+"}", zeros[:8]...), "hole"},
		"data behind the last":   {raw("{"+entry("w", "F32", "[1]", 0, 4)+"}", zeros[:12]...), "8 bytes follow"},
		"data without tensors":   {raw("{}", 1), "1 bytes follow"},
	}
}

func TestMalformedFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	for name, c := range bad() {
		t.Run(name, func(t *testing.T) {
			f, err := Open(put(t, filepath.Join(dir, "broken.safetensors"), c.file))
			if err == nil {
				f.Close()
				t.Fatal("opens, want an error")
			}
			if !errors.Is(err, ErrFormat) {
				t.Errorf("not an ErrFormat: %v", err)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "broken.safetensors") {
				t.Errorf("message %q, want the file's name and %q", err, c.says)
			}
		})
	}
}

func TestGoodOddities(t *testing.T) {
	for name, file := range map[string][]byte{
		"no tensors":      raw("{}"),
		"padded":          raw("{}      "),
		"scalar":          raw("{"+entry("w", "F32", "[]", 0, 4)+"}", 0, 0, 128, 63),
		"zero size":       raw("{" + entry("w", "F32", "[3,0,5]", 0, 0) + "}"),
		"zero size twice": raw("{"+entry("z", "F32", "[0]", 0, 0)+","+entry("y", "F32", "[0]", 4, 4)+","+entry("w", "F32", "[1]", 0, 4)+"}", 0, 0, 0, 0),
		"large but empty": raw("{" + entry("w", "F32", "[4294967296,4294967296,4,0]", 0, 0) + "}"),
		"misaligned":      raw("{"+entry("b", "BOOL", "[1]", 0, 1)+","+entry("w", "F32", "[1]", 1, 5)+"} ", 1, 0, 0, 128, 63),
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Open(put(t, filepath.Join(t.TempDir(), "x.safetensors"), file))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, n := range f.Names() {
				x, err := f.Tensor(n)
				if err != nil {
					t.Error(err)
				} else if info, _ := f.Info(n); info.DType == tensor.F32 && x.Len() == 1 && n == "w" && name != "zero size twice" && x.F32()[0] != 1 {
					t.Errorf("%s = %v, want 1", n, x.F32())
				}
			}
		})
	}
}

func TestOpenOfWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none.safetensors")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a folder opens as a file")
	}
}

// Opening reads the header alone, however long the data: here 2 GB that take no room.
func TestOpeningIsLazy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.safetensors")
	const n = 2 << 30
	header := raw("{" + entry("w", "U8", fmt.Sprintf("[%d]", n), 0, n) + "}")
	put(t, path, header)
	if err := os.Truncate(path, int64(len(header))+n); err != nil {
		t.Skip("no sparse files here:", err)
	}
	start := time.Now()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if d := time.Since(start); d > time.Second {
		t.Errorf("opening took %v", d)
	}
	x, err := f.Tensor("w")
	if err != nil || x.Len() != n || x.Bytes()[n-1] != 0 {
		t.Errorf("tensor of %v: %v", x, err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(golden())
	for _, c := range bad() {
		f.Add(c.file)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse("fuzz", data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("not an ErrFormat: %v", err)
			}
			return
		}
		var sum int64
		seen := map[string]bool{}
		for _, name := range file.Names() {
			x, err := file.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			if seen[name] {
				t.Errorf("%q twice", name)
			}
			seen[name] = true
			n := x.DType().Size()
			for _, d := range x.Shape() {
				n *= d
			}
			if n != len(x.Bytes()) {
				t.Errorf("%q: %d bytes for %s %v", name, len(x.Bytes()), x.DType(), x.Shape())
			}
			sum += int64(n)
		}
		if header := int64(binary.LittleEndian.Uint64(data)); lengthBytes+header+sum != int64(len(data)) {
			t.Errorf("header %d and data %d do not fill the file's %d bytes", header, sum, len(data))
		}
	})
}

// What is read as a plain header is what JSON at large reads, and whatever is not JSON is
// not plain.
func FuzzPlainHeader(f *testing.F) {
	f.Add(`{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"__metadata__":{"k":"v"}} `)
	f.Add(`{ "a" : { "shape" : [ ] , "data_offsets" : [ 0 , 4 ] , "dtype" : "F32" } }`)
	f.Add(`{"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}`)
	f.Add(`{"a":{"dtype":"F32","shape":[2,],"data_offsets":[0,8]}}`)
	f.Add(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},}`)
	f.Add(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`)
	f.Add(`{"__metadata__":{"k":"v","k":"w"}}`)
	f.Add(`{"__metadata__":{},"__metadata__":{}}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, header string) {
		if !utf8.ValidString(header) {
			t.Skip("parseHeader has refused it before")
		}
		data := make([]byte, 64)
		fast, slow := &File{name: "f", data: data}, &File{name: "f", data: data}
		plain, err := fast.parsePlain([]byte(header))
		if !plain {
			if fast.tensors != nil || fast.metadata != nil {
				t.Fatal("a header that is not plain leaves something behind")
			}
			return
		}
		want := slow.parseJSON([]byte(header))
		if (err == nil) != (want == nil) || err != nil && err.Error() != want.Error() {
			t.Fatalf("%v as plain, %v as JSON", err, want)
		}
		if err == nil && (len(fast.tensors) != len(slow.tensors) || len(fast.tensors) > 0 && !reflect.DeepEqual(fast.tensors, slow.tensors) || !reflect.DeepEqual(fast.metadata, slow.metadata)) {
			t.Fatalf("%+v %v as plain, %+v %v as JSON", fast.tensors, fast.metadata, slow.tensors, slow.metadata)
		}
	})
}

// Headers as programs write them are plain.
func TestPlainHeaders(t *testing.T) {
	for _, header := range []string{
		`{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"__metadata__":{"format":"pt"}}      `,
		`{ "a": {"data_offsets": [0, 4], "dtype": "F32", "shape": []} }`,
	} {
		f := &File{name: "f", data: make([]byte, 8)}
		if plain, err := f.parsePlain([]byte(header)); !plain || err != nil || len(f.tensors) != 1 {
			t.Errorf("%s: plain %v, %v, %d tensors", header, plain, err, len(f.tensors))
		}
	}
}
