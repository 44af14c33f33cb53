package kubernetes

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	etcdkubernetes "go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/utils/clock"

	"github.com/quoratedb/quorate/e2e/cluster"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds the program from its own module, with the dependencies that it has there. A file named etcd behaves as it.
func run(m *testing.M) int {
	if os.Getenv(cluster.EnvironmentProgram) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "quorate-kubernetes-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "etcd")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./cmd/quorate")
	build.Dir = "../.."
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build cmd/quorate: %v\n%s", err, output)
		return 1
	}
	if err := os.Setenv(cluster.EnvironmentProgram, program); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// layer is Kubernetes' storage layer for pods, over a client of a node.
type layer struct {
	storage.Interface
	client      *etcdkubernetes.Client
	kv          *storagetesting.KVRecorder
	lists       *storagetesting.KubernetesRecorder
	transformer *storagetesting.PrefixTransformer
}

// open makes a layer with a path prefix of its own, so that the cluster need not be new for each test.
func open(t *testing.T, n *cluster.Node) *layer {
	t.Helper()
	client, err := etcdkubernetes.New(clientv3.Config{Endpoints: []string{n.Endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // it reports the end of its own context
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	for _, add := range []func(*runtime.Scheme) error{example.AddToScheme, examplev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	l := &layer{client: client, transformer: storagetesting.NewPrefixTransformer([]byte("test!"), false)}
	l.lists = storagetesting.NewKubernetesRecorder(client.Kubernetes)
	l.kv = storagetesting.NewKVRecorder(client.KV, l.lists)
	client.Kubernetes, client.KV = l.lists, l.kv
	codec := apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion)
	versioner := storage.APIObjectVersioner{}
	compactor := etcd3.NewCompactor(client.Client, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	leases := etcd3.NewDefaultLeaseManagerConfig()
	leases.ReuseDurationSeconds = 1
	store, err := etcd3.New(client, compactor, codec, func() runtime.Object { return &example.Pod{} }, func() runtime.Object { return &example.PodList{} },
		"/"+t.Name(), "/pods/", schema.GroupResource{Resource: "pods"}, l.transformer, leases, etcd3.NewDefaultDecoder(codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	l.Interface = store
	return l
}

// write changes something, so that the resource version grows by one.
func (l *layer) write(_ context.Context, t *testing.T) int64 {
	t.Helper()
	answer, err := l.client.Client.KV.Put(t.Context(), "increaseRV", "ok")
	if err != nil {
		t.Fatal(err)
	}
	return answer.Header.Revision
}

func (l *layer) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	revision, err := strconv.ParseInt(resourceVersion, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Client.KV.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	l.write(ctx, t)
}

// anyCalls: how many calls a list takes is Kubernetes' own affair.
func anyCalls(*testing.T, uint64, uint64) {}

// TestStorageLayer runs Kubernetes' own tests of lists and pages, with RangeStream, which it uses by default, and without; then those of
// writes and watches.
func TestStorageLayer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	nodes := cluster.Start(t, cluster.Options{}).Nodes
	for _, streamed := range []bool{true, false} {
		t.Run(fmt.Sprintf("RangeStream=%v", streamed), func(t *testing.T) {
			featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, features.EtcdRangeStream, streamed)
			for i, test := range lists {
				t.Run(test.name, func(t *testing.T) {
					l := open(t, nodes[i%len(nodes)])
					test.run(t.Context(), t, l)
					if used := l.kv.GetStreamReadsAndReset() > 0; used != streamed {
						t.Errorf("lists were read by RangeStream: %v", used)
					}
				})
			}
		})
	}
	for i, test := range others {
		t.Run(test.name, func(t *testing.T) { test.run(t.Context(), t, open(t, nodes[i%len(nodes)])) })
	}
}

type storageTest struct {
	name string
	run  func(ctx context.Context, t *testing.T, l *layer)
}

var lists = []storageTest{
	{"List", func(ctx context.Context, t *testing.T, l *layer) {
		storagetesting.RunTestList(ctx, t, l, l.compact, false, l.lists)
	}},
	{"ListPaging", func(ctx context.Context, t *testing.T, l *layer) { storagetesting.RunTestListPaging(ctx, t, l) }},
	{"ListContinuation", func(ctx context.Context, t *testing.T, l *layer) {
		storagetesting.RunTestListContinuation(ctx, t, l, anyCalls)
	}},
	{"ListInconsistentContinuation", func(ctx context.Context, t *testing.T, l *layer) {
		storagetesting.RunTestListInconsistentContinuation(ctx, t, l, l.compact)
	}},
	{"ConsistentList", func(ctx context.Context, t *testing.T, l *layer) {
		storagetesting.RunTestConsistentList(ctx, t, l, l.write, false, true, false)
	}},
	{"GetListRecursivePrefix", func(ctx context.Context, t *testing.T, l *layer) {
		storagetesting.RunTestGetListRecursivePrefix(ctx, t, l)
	}},
	{"NamespaceScopedList", func(ctx context.Context, t *testing.T, l *layer) {
		storagetesting.RunTestNamespaceScopedList(ctx, t, l)
	}},
	{"PagesOfAnOldRevision", pagesOfAnOldRevision},
}

// Left out is WatchFromZero: it wants a watch that begins at the compacted revision to fail, because etcd has no previous value there. Here there may
// be one (docs/operations.md, "Differences from etcd"), and the watch is right.
var others = []storageTest{
	{"GetListNonRecursive", func(ctx context.Context, t *testing.T, l *layer) {
		storagetesting.RunTestGetListNonRecursive(ctx, t, l.write, l)
	}},
	{"CreateWithKeyExist", func(ctx context.Context, t *testing.T, l *layer) { storagetesting.RunTestCreateWithKeyExist(ctx, t, l) }},
	{"Get", func(ctx context.Context, t *testing.T, l *layer) { storagetesting.RunTestGet(ctx, t, l) }},
	{"ConditionalDelete", func(ctx context.Context, t *testing.T, l *layer) { storagetesting.RunTestConditionalDelete(ctx, t, l) }},
	{"GuaranteedUpdateWithConflict", func(ctx context.Context, t *testing.T, l *layer) {
		storagetesting.RunTestGuaranteedUpdateWithConflict(ctx, t, l)
	}},
	{"Watch", func(ctx context.Context, t *testing.T, l *layer) { storagetesting.RunTestWatch(ctx, t, l) }},
	{"WatchDispatchBookmarkEvents", func(ctx context.Context, t *testing.T, l *layer) {
		storagetesting.RunTestWatchDispatchBookmarkEvents(ctx, t, l, false)
	}},
}

// pagesOfAnOldRevision goes through more pods than fit into one chunk of a stream, page by page, while others change them: every page is of the
// revision of the first, and together they are what a single list was.
func pagesOfAnOldRevision(ctx context.Context, t *testing.T, l *layer) {
	const pods, page = 60, 25
	for i := range pods {
		pod := &example.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprintf("pod-%02d", i)}}
		pod.Annotations = map[string]string{"large": fmt.Sprintf("%0100000d", i)}
		if err := l.Create(ctx, "/pods/ns/"+pod.Name, pod, &example.Pod{}, 0); err != nil {
			t.Fatal(err)
		}
	}
	whole := l.list(ctx, t, 0, "")
	if len(whole.Items) != pods || whole.ResourceVersion == "" || whole.Continue != "" {
		t.Fatalf("%d pods at %s, continue with %q", len(whole.Items), whole.ResourceVersion, whole.Continue)
	}
	var names []string
	for token := ""; ; {
		part := l.list(ctx, t, page, token)
		if part.ResourceVersion != whole.ResourceVersion {
			t.Fatalf("a page at %s, the first was at %s", part.ResourceVersion, whole.ResourceVersion)
		}
		for _, pod := range part.Items {
			names = append(names, pod.Name)
		}
		left := int64(pods - len(names))
		if token = part.Continue; token == "" {
			break
		}
		if part.RemainingItemCount == nil || *part.RemainingItemCount != left {
			t.Fatalf("after %d pods there remain %v", len(names), part.RemainingItemCount)
		}
		if err := l.Delete(ctx, fmt.Sprintf("/pods/ns/pod-%02d", len(names)), &example.Pod{}, nil, storage.ValidateAllObjectFunc, nil, storage.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(names) != pods || names[0] != "pod-00" || names[pods-1] != fmt.Sprintf("pod-%02d", pods-1) {
		t.Errorf("the pages have %q", names)
	}
}

func (l *layer) list(ctx context.Context, t *testing.T, limit int64, token string) *example.PodList {
	t.Helper()
	options := storage.ListOptions{Predicate: storage.Everything, Recursive: true}
	options.Predicate.Limit, options.Predicate.Continue = limit, token
	list := &example.PodList{}
	if err := l.GetList(ctx, "/pods/", options, list); err != nil {
		t.Fatal(err)
	}
	return list
}
