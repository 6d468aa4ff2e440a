/** Where a record is and what is in it. */
export interface HydrantRecord {
  topic: string;
  partition: number;
  offset: number;
  timestamp: number;
  timestamp_type: "create" | "append";
  key: unknown;
  key_encoding?: "base64";
  headers: Array<[string, string | null] | [string, string, "base64"]>;
  value: unknown;
  value_encoding?: "base64";
  tombstone?: true;
}

export interface Gap {
  topic: string | null;
  partition: number | null;
  requested: number | null;
  resumed: number | null;
  reason: "retention" | "recreated" | "deleted" | "truncated" | "overflow" | "expired" | "offline";
}

export interface Assignment {
  partitions: Array<{ topic: string; partition: number; offset: number }>;
  generation: number | null;
}

export interface HydrantEvent {
  event: string;
  /** The cursor after this event. */
  id: string;
  data: any;
}

export interface Options {
  /** A topic, or topics, or use `pattern`. */
  topics?: string | string[];
  pattern?: string;
  /** Read as a member of this group. */
  group?: string;
  /** Name of the member; the same name keeps its partitions. Made up if absent. */
  member?: string;
  ack?: "auto" | "explicit" | "none";
  /** Any other parameter of streams: `from`, `limit`, `key`, … */
  params?: Record<string, string | number>;
  /** The first Last-Event-ID. */
  cursor?: string;
  headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);
  signal?: AbortSignal;
  /** Called for records; an async one holds the stream up until it is done. */
  onRecord?: (record: HydrantRecord, event: HydrantEvent) => void | Promise<void>;
  onGap?: (gap: Gap) => void;
  onAssigned?: (assignment: Assignment) => void;
  onRevoked?: (assignment: Assignment) => void;
  onCaughtUp?: () => void;
  /** Every event but records, pings included. */
  onEvent?: (event: HydrantEvent) => void;
  /** `open`, `closed` (will connect again) or `end`. */
  onState?: (state: "open" | "closed" | "end", why?: unknown) => void;
  /** Silence after which a connection counts as dead, in ms; 45000 by default. */
  silence?: number;
  /** Longest pause before the next attempt, in ms; 30000 by default. */
  backoffMax?: number;
  fetch?: typeof fetch;
}

export interface Stream {
  /** The id of the last event that was handled. */
  readonly cursor: string;
  readonly member: string | undefined;
  /** Acknowledges everything handled so far, or up to a cursor (`ack: "explicit"`). */
  ack(cursor?: string): Promise<unknown>;
  /** Ends the stream; with `leave` its partitions go to others at once. */
  close(options?: { leave?: boolean }): Promise<void>;
  /** Settles when the stream has ended for good. */
  readonly done: Promise<void>;
}

/** Opens a stream of a server, e.g. `stream("", { topics: "orders", onRecord })`. */
export function stream(server: string, options: Options): Stream;

/** Parses server-sent events from a stream of bytes. */
export function events(body: ReadableStream<Uint8Array>): AsyncGenerator<HydrantEvent & { retry?: number }>;
