/** What the pages of datasets ask of the server, and what they change. */
import { keepPreviousData, useMutation, useQueries, useQuery, useQueryClient } from "@tanstack/react-query";
import { useToast } from "../../components/Toasts";
import type {
  BulkApply,
  BulkDone,
  BulkPreview,
  BulkRequest,
  CaptionEdit,
  CaptionRow,
  Captions,
  DatasetDetail,
  DatasetId,
  DatasetList,
  Doctor,
  DoctorRequest,
  Pictures,
  Removed,
  Undone,
} from "../../generated/api";
import { call, errorText } from "../../lib/api";
import { extensionOf } from "../../lib/uploads";

export const PAGE = 60;
const POLL_MS = 700;

/** Which pictures of a dataset are shown. */
export interface Filter {
  q: string;
  kind: string;
}

const at = (id: string) => `/api/datasets/${encodeURIComponent(id)}`;
const KEY = { list: ["datasets"], one: (id: string) => ["dataset", id], files: (id: string) => ["dataset", id, "files"], doctor: (id: string) => ["dataset", id, "doctor"] };

/** Asked anew each time that it is shown: folders change without a word. */
export const useDatasets = () =>
  useQuery({ queryKey: KEY.list, queryFn: ({ signal }) => call<DatasetList>("GET", "/api/datasets", undefined, signal), refetchOnMount: "always" });

export const useDataset = (id: string) =>
  useQuery({ queryKey: KEY.one(id), queryFn: ({ signal }) => call<DatasetDetail>("GET", at(id), undefined, signal), refetchOnMount: "always" });

/** Asked again and again only while a look is under way. */
export const useDoctor = (id: string) =>
  useQuery({
    queryKey: KEY.doctor(id),
    queryFn: ({ signal }) => call<Doctor>("GET", `${at(id)}/doctor`, undefined, signal),
    refetchOnMount: "always",
    refetchInterval: ({ state }) => (state.data?.state === "running" ? POLL_MS : false),
  });

function fetchPage(id: string, { q, kind }: Filter, page: number, signal: AbortSignal): Promise<Pictures> {
  const query = new URLSearchParams({ offset: String(page * PAGE), limit: String(PAGE) });
  if (q) query.set("q", q);
  if (kind) query.set("kind", kind);
  return call<Pictures>("GET", `${at(id)}/files?${query}`, undefined, signal);
}

/** The pages that hold the pictures from `first` to `last`, by number; the first page always, for the total. */
export function usePictures(id: string, filter: Filter, first: number, last: number) {
  const pages = new Set([0]);
  for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE); page += 1) pages.add(page);
  const numbers = [...pages];
  const results = useQueries({
    queries: numbers.map((page) => ({
      queryKey: [...KEY.files(id), filter, page],
      queryFn: ({ signal }: { signal: AbortSignal }) => fetchPage(id, filter, page, signal),
      placeholderData: page === 0 ? keepPreviousData : undefined,
      refetchOnMount: "always" as const,
    })),
  });
  return {
    total: results[0]?.data?.total,
    error: results[0]?.error,
    isOld: results[0]?.isPlaceholderData ?? false,
    pages: new Map(numbers.flatMap((page, place) => (results[place]?.data ? [[page, results[place].data]] : []))),
  };
}

export const saveCaption = async (id: string, edit: CaptionEdit): Promise<CaptionRow> =>
  (await call<Captions>("PATCH", `${at(id)}/captions`, { edits: [edit] })).captions[0]!;

export const previewBulk = (id: string, body: BulkRequest, signal?: AbortSignal) =>
  call<BulkPreview>("POST", `${at(id)}/bulk/preview`, body, signal);

export const sendFile = (id: string, file: File, signal: AbortSignal) =>
  call<unknown>("PUT", `${at(id)}/${extensionOf(file.name) === ".zip" ? "zip" : `files/${encodeURIComponent(file.name)}`}`, file, signal);

/** Forget what is known of the pictures of a dataset, and ask again for what is shown. */
export function useRefresh(id: string): () => void {
  const client = useQueryClient();
  return () => void client.invalidateQueries({ queryKey: KEY.one(id) });
}

/** Put a caption that was saved where it is shown. */
export function usePutCaption(id: string): (row: CaptionRow) => void {
  const client = useQueryClient();
  return (row) => {
    client.setQueriesData<Pictures>({ queryKey: KEY.files(id) }, (page) =>
      page && { ...page, pictures: page.pictures.map((each) => (each.file === row.file ? { ...each, text: row.text, tag: row.tag, trouble: "", is_listed: false } : each)) },
    );
    client.setQueryData<Doctor>(KEY.doctor(id), (doctor) => doctor && { ...doctor, is_stale: doctor.time !== null });
  };
}

function useChange<Input, Output>(send: (input: Input) => Promise<Output>, stale: readonly unknown[][]) {
  const client = useQueryClient();
  const toast = useToast();
  return useMutation({
    mutationFn: send,
    onError: (error) => toast({ text: errorText(error), tone: "bad" }),
    onSettled: () => {
      for (const queryKey of stale) void client.invalidateQueries({ queryKey });
    },
  });
}

/** Its error is shown beside the name. */
export const useMakeDataset = () =>
  useMutation({ mutationFn: (body: { name: string; root: number }) => call<DatasetId>("POST", "/api/datasets", body) });

export const useDeleteDataset = (id: string) => useChange(() => call<DatasetId>("DELETE", at(id)), [KEY.list, ["trash"]]);

export const useBulk = (id: string) => useChange((body: BulkApply) => call<BulkDone>("POST", `${at(id)}/bulk`, body), [KEY.one(id)]);

export const useUndo = (id: string) => useChange((step: string) => call<Undone>("POST", `${at(id)}/undo`, { id: step }), [KEY.one(id)]);

export const useRemove = (id: string) =>
  useChange((files: string[]) => call<Removed>("POST", `${at(id)}/remove`, { files }), [KEY.one(id), ["trash"]]);

export function useStartDoctor(id: string) {
  return useChange((body: DoctorRequest) => call<Doctor>("POST", `${at(id)}/doctor`, body), [KEY.doctor(id)]);
}
