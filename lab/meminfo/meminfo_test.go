package meminfo

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestFigure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(file, []byte("Name:\ttare\nVmHWM:\t    2048 kB\nVmRSS:\t none\nLast:"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, ok := figure(file, "VmHWM:"); n != 2<<20 || !ok {
		t.Errorf("2048 kB are %d bytes, %v", n, ok)
	}
	for _, mark := range []string{"VmRSS:", "VmSwap:", "Last:"} {
		if _, ok := figure(file, mark); ok {
			t.Errorf("%s is known", mark)
		}
	}
	if _, ok := figure(file+" that is not", "VmHWM:"); ok {
		t.Error("a missing file is read")
	}
}

// The peak is at least what is held, and rises with what is written to.
func TestPeak(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	if !ResetPeak() {
		t.Skip("this system does not let the mark be set back")
	}
	before, ok := Held()
	if !ok {
		t.Fatal("what is held is not known")
	}
	block := make([]byte, 64<<20)
	for i := range block {
		block[i] = 1
	}
	if peak, ok := Peak(); !ok || peak < before+32<<20 {
		t.Errorf("the peak is %d after %d and a block of %d", peak, before, len(block))
	}
	runtime.KeepAlive(block)
	if free, ok := Available(); !ok || free <= 0 {
		t.Errorf("%d bytes are available, %v", free, ok)
	}
}
