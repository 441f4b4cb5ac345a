package checkpoint

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
)

// output is a file on its way: written under a temporary name beside its final one,
// synced, then renamed.
type output struct {
	path string
	temp string
	f    *os.File // nil when it has ended
}

func createOutput(path string) (*output, error) {
	temp := temporary(path)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: create %s: %w", path, explain(err))
	}
	return &output{path: path, temp: temp, f: f}, nil
}

// temporary returns an unused name in the folder of path, so that a rename stays
// within one file system.
func temporary(path string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, fmt.Sprintf(".%s.%d-%08x.tmp", base, os.Getpid(), rand.Uint32()))
}

// fail ends the output because of err, which it returns with the file's name.
func (o *output) fail(err error) error {
	o.abort()
	return fmt.Errorf("checkpoint: write %s: %w", o.path, explain(err))
}

// abort removes what was written; after an end it does nothing.
func (o *output) abort() {
	if o.f == nil {
		return
	}
	o.f.Close()
	o.f = nil
	os.Remove(o.temp)
}

// finish ends a file of announced tensors: it is committed when all are written, else
// removed, and the error names the first that is missing.
func (o *output) finish(buf *bufio.Writer, written, announced int, name func(i int) string) error {
	if o.f == nil {
		return fmt.Errorf("checkpoint: %s: the writer has ended", o.path)
	}
	if written < announced {
		return o.fail(missing(filepath.Base(o.path), "tensor %q was announced and not written (%d of %d were)", name(written), written, announced))
	}
	if err := buf.Flush(); err != nil {
		return o.fail(err)
	}
	return o.commit()
}

// commit brings the file to the disk under its final name.
func (o *output) commit() error {
	if err := o.f.Sync(); err != nil {
		return o.fail(err)
	}
	err := o.f.Close()
	o.f = nil
	if err == nil {
		err = os.Rename(o.temp, o.path)
	}
	if err != nil {
		os.Remove(o.temp)
		return fmt.Errorf("checkpoint: write %s: %w", o.path, explain(err))
	}
	syncFolder(filepath.Dir(o.path))
	return nil
}

// syncFolder makes a rename last through a power cut where the system allows it.
func syncFolder(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}

// WriteBytes writes a small file in one step: a reader sees the old one or the new
// one.
func WriteBytes(path string, data []byte) error {
	o, err := createOutput(path)
	if err != nil {
		return err
	}
	if _, err := o.f.Write(data); err != nil {
		return o.fail(err)
	}
	return o.commit()
}

// checkRoom refuses early what the file system of path cannot hold.
func checkRoom(path string, need int64) error {
	free, known := freeBytes(filepath.Dir(path))
	if known && uint64(need) > free {
		return fmt.Errorf("checkpoint: write %s: disk is full: %s bytes are needed, %s are free: %w", path, commas(need), commas(free), syscall.ENOSPC)
	}
	return nil
}
