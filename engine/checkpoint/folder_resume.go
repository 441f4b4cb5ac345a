package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
)

// resumeName is the file of an unfinished folder that says what it will be. It is
// locked while a writer is at it.
const resumeName = "resume"

// unfinished returns where a resumable folder is built.
func unfinished(dir string) string {
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".part")
}

// takeUp begins or goes on with the unfinished folder: files that are whole stay if
// they were begun under the same mark, all else is removed.
func (w *FolderWriter) takeUp(mark string) (err error) {
	w.temp = unfinished(w.dir)
	if err := os.MkdirAll(w.temp, 0o777); err != nil {
		return fmt.Errorf("checkpoint: create %s: %w", w.dir, explain(err))
	}
	path := filepath.Join(w.temp, resumeName)
	if w.mark, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return fmt.Errorf("checkpoint: create %s: %w", w.dir, explain(err))
	}
	if !lock(w.mark) {
		w.mark.Close()
		return fmt.Errorf("checkpoint: %s is being written by another process; wait for it or choose another name", w.dir)
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	keep := map[string]bool{resumeName: true}
	if string(old) == mark {
		for w.next < len(w.shards) && w.whole(w.next) {
			keep[w.shardName(w.next)] = true
			w.next++
		}
	}
	if err := clearFolder(w.temp, keep); err != nil {
		return err
	}
	if w.next > 0 {
		return nil
	}
	if err = w.mark.Truncate(0); err == nil {
		if _, err = w.mark.WriteAt([]byte(mark), 0); err == nil {
			err = w.mark.Sync()
		}
	}
	if err != nil {
		return fmt.Errorf("checkpoint: write %s: %w", path, explain(err))
	}
	return nil
}

// whole reports whether shard i stands there in its full size: files get their names
// when they are whole.
func (w *FolderWriter) whole(i int) bool {
	header, size, err := buildHeader(w.shardName(i), w.shards[i], w.metadata)
	if err != nil {
		return false
	}
	st, err := os.Stat(filepath.Join(w.temp, w.shardName(i)))
	return err == nil && st.Mode().IsRegular() && st.Size() == int64(len(header))+size
}

// clearFolder removes all but the named entries.
func clearFolder(dir string, keep map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("checkpoint: %w", err)
			}
		}
	}
	return nil
}

// Done returns how many of the announced tensors an earlier writer has finished; the
// next to be written is the one after them. files is how many files they fill, of all.
func (w *FolderWriter) Done() (tensors, files, all int) {
	for _, shard := range w.shards[:w.next] {
		tensors += len(shard)
	}
	return tensors, w.next, len(w.shards)
}

// Suspend ends an unfinished folder that may be resumed: finished files stay for the
// next writer under the same mark. It tells how many do; where none does, or the
// folder is none to be resumed, it is Abort.
func (w *FolderWriter) Suspend() (files int) {
	files = w.next
	if w.w != nil {
		files--
	}
	if w.ended || w.mark == nil || files == 0 {
		w.Abort()
		return 0
	}
	w.ended = true
	if w.w != nil {
		w.w.Abort()
	}
	w.mark.Close()
	return files
}
